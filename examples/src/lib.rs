//! Small clients that know nothing of SOCKS, used by the demo and as victims in tests.
