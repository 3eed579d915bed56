//! TLS 1.3 from one gateway to the next: what the configuration says of it, and the files that it names. How octets
//! go through it is `session`'s.
//!
//! No session is resumed: that would save some arithmetic and no round trip, and an old ticket would still let in whom the
//! present files do not.

mod session;

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::text::Endpoint;

pub(crate) use crate::tls::session::{Broken, Session};

/// Whom a host trusts, where Debian and its relatives keep it.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Reads what nobody else may read.
pub(crate) type ReadSecret = fn(&Path) -> io::Result<Zeroizing<Vec<u8>>>;

/// `[tls]`: listeners that speak TLS.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ServerTable {
    listen: Vec<Endpoint>,
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// `tls` of an `[[upstream]]`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ClientTable {
    ca: Option<PathBuf>,
    server_name: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// Where TLS is spoken to clients, and with which certificate.
#[derive(Debug, Clone)]
pub struct TlsListeners {
    pub(crate) listen: Vec<SocketAddr>,
    /// Nobody is served without a certificate that is good here.
    pub(crate) knows_its_clients: bool,
    server: Arc<ServerConfig>,
}

/// How TLS is spoken to one upstream.
pub(crate) struct Towards {
    client: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// What is wrong with a certificate, a key, or where they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, io::Error),
    /// It is no PEM.
    #[error("{0}: {1}")]
    Pem(PathBuf, pem::Error),
    /// It is PEM of something else.
    #[error("there is no {1} in {0}")]
    Missing(PathBuf, &'static str),
    /// A certificate or a key that cannot be used.
    #[error("{0}: {1}")]
    Unusable(PathBuf, rustls::Error),
    /// Certificate and key are of different people.
    #[error("{key} is not the key of the certificate in {certificate}")]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The chain's file; the first one counts.
        certificate: PathBuf,
    },
    /// No certificate can be for this name.
    #[error("no certificate is for \"{0}\": say with server-name whose it has to be")]
    Name(String),
    /// Nothing of a file's.
    #[error("{0}")]
    Rustls(rustls::Error),
    /// Nobody could reach it.
    #[error("[tls] wants a listener, under listen")]
    NoListener,
}

impl ServerTable {
    /// With what is in its files.
    pub(crate) fn ready(&self, read: ReadSecret) -> Result<TlsListeners, TlsError> {
        if self.listen.is_empty() {
            return Err(TlsError::NoListener);
        }
        let identity = identity(&self.certificate, &self.key, read)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(TlsError::Rustls)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(roots(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = verifier
                    .build()
                    .map_err(|error| TlsError::Rustls(rustls::Error::General(error.to_string())))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(TlsListeners {
            listen: self
                .listen
                .iter()
                .map(|&Endpoint(address)| address)
                .collect(),
            knows_its_clients: self.client_ca.is_some(),
            server: Arc::new(server),
        })
    }

    /// With paths relative to this folder.
    pub(crate) fn within(self, folder: &Path) -> Self {
        Self {
            certificate: folder.join(self.certificate),
            key: folder.join(self.key),
            client_ca: self.client_ca.map(|path| folder.join(path)),
            ..self
        }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [
            Some(&self.certificate),
            Some(&self.key),
            self.client_ca.as_ref(),
        ];
        files.into_iter().flatten().map(PathBuf::as_path)
    }
}

impl ClientTable {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err("certificate and key go together");
        }
        Ok(())
    }

    /// With what is in its files, for the upstream of this name or address.
    pub(crate) fn ready(&self, host: &str, read: ReadSecret) -> Result<Towards, TlsError> {
        let roots = match &self.ca {
            Some(path) => roots(path)?,
            None => system_roots(Path::new(SYSTEM_CA))?,
        };
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name.as_str())
            .map_err(|_invalid| TlsError::Name(name.clone()))?
            .to_owned();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(TlsError::Rustls)?;
        let builder = builder.with_root_certificates(roots);
        let mut client = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let identity = identity(certificate, key, read)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
            }
            _ => builder.with_no_client_auth(),
        };
        client.resumption = Resumption::disabled();
        let client = Arc::new(client);
        Ok(Towards { client, name })
    }

    /// With paths relative to this folder.
    pub(crate) fn within(self, folder: &Path) -> Self {
        let there = |path: PathBuf| folder.join(path);
        Self {
            ca: self.ca.map(there),
            certificate: self.certificate.map(there),
            key: self.key.map(there),
            ..self
        }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.ca, &self.certificate, &self.key];
        files.into_iter().flatten().map(PathBuf::as_path)
    }
}

impl TlsListeners {
    pub(crate) fn session(&self) -> Result<Session, Broken> {
        let connection = ServerConnection::new(Arc::clone(&self.server));
        Ok(Session::new(connection.map_err(Broken::Tls)?.into()))
    }
}

impl Towards {
    pub(crate) fn session(&self) -> Result<Session, Broken> {
        let connection = ClientConnection::new(Arc::clone(&self.client), self.name.clone());
        Ok(Session::new(connection.map_err(Broken::Tls)?.into()))
    }
}

/// A chain, its own certificate first, and the key of that one.
fn identity(certificate: &Path, key: &Path, read: ReadSecret) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate)?;
    let pem = read(key).map_err(|error| TlsError::Unreadable(key.to_owned(), error))?;
    let der = match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(der) => Zeroizing::new(der),
        Err(pem::Error::NoItemsFound) => {
            let what = "private key, or it asks for a passphrase";
            return Err(TlsError::Missing(key.to_owned(), what));
        }
        Err(error) => return Err(TlsError::Pem(key.to_owned(), error)),
    };
    let signing = ring::sign::any_supported_type(&der)
        .map_err(|error| TlsError::Unusable(key.to_owned(), error))?;
    let identity = CertifiedKey::new(chain, signing);
    match identity.keys_match() {
        Ok(()) => Ok(identity),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
            key: key.to_owned(),
            certificate: certificate.to_owned(),
        }),
        Err(error) => Err(TlsError::Unusable(certificate.to_owned(), error)),
    }
}

/// Every certificate of a file, of which there is one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = fs::read(path).map_err(|error| TlsError::Unreadable(path.to_owned(), error))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| TlsError::Pem(path.to_owned(), error))?;
    if found.is_empty() {
        return Err(TlsError::Missing(path.to_owned(), "certificate"));
    }
    Ok(found)
}

/// Those whom the operator trusts: all of them, or it is an error.
fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| TlsError::Unusable(path.to_owned(), error))?;
    }
    Ok(roots)
}

/// Those whom the system trusts, as far as they are understood: some have been there for long.
fn system_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(path)?);
    Ok(roots)
}

/// `true`, or a table that says more.
pub(crate) fn true_or_table<'de, D>(deserializer: D) -> Result<Option<ClientTable>, D::Error>
where
    D: Deserializer<'de>,
{
    struct TrueOrTable;

    impl<'de> Visitor<'de> for TrueOrTable {
        type Value = Option<ClientTable>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true, or a table")
        }

        fn visit_bool<E>(self, is_on: bool) -> Result<Self::Value, E> {
            Ok(is_on.then(ClientTable::default))
        }

        fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
            ClientTable::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    deserializer.deserialize_any(TrueOrTable)
}

impl fmt::Debug for Towards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Towards")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
