//! libc's own functions, by RTLD_NEXT: all in the constructor, or one on first use if a call comes
//! before it.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::marker::PhantomData;
use std::mem::{size_of, transmute_copy};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{
    FILE, addrinfo, epoll_event, fd_set, hostent, iovec, mmsghdr, msghdr, nfds_t, pid_t, pollfd,
    posix_spawn_file_actions_t, posix_spawnattr_t, sigset_t, sockaddr, socklen_t, ssize_t,
    timespec, timeval,
};

use crate::sys::errno;

/// A function of libc, found when it is first asked for.
pub(crate) struct Next<F> {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
    signature: PhantomData<F>,
}

impl<F: Copy> Next<F> {
    const fn new(name: &'static CStr) -> Self {
        assert!(
            size_of::<F>() == size_of::<*mut c_void>(),
            "F is a function pointer"
        );
        Self {
            name,
            address: AtomicPtr::new(ptr::null_mut()),
            signature: PhantomData,
        }
    }

    /// The function. Async-signal-safe once it has been called, which the constructor sees to.
    pub(crate) fn get(&self) -> F {
        let mut address = self.address.load(Ordering::Relaxed);
        if address.is_null() {
            address = self.look_up();
        }
        // SAFETY: `address` is a function of libc with the signature `F` (the table below is copied
        // from the manual pages), or `missing`; a function pointer has a pointer's size (checked in `new`).
        unsafe { transmute_copy::<*mut c_void, F>(&address) }
    }

    /// Whether this libc has it.
    pub(crate) fn is_there(&self) -> bool {
        let _found = self.get();
        !ptr::eq(
            self.address.load(Ordering::Relaxed),
            missing as *const c_void,
        )
    }

    #[cold]
    fn look_up(&self) -> *mut c_void {
        // SAFETY: the name is NUL-terminated.
        let mut address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if address.is_null() {
            address = missing as *mut c_void;
        }
        self.address.store(address, Ordering::Relaxed);
        address
    }
}

/// Stands for a function that this libc does not have. Called with arguments that it does not take,
/// which the C calling conventions of Linux (x86-64, AArch64) leave to the caller to clean up.
extern "C" fn missing() -> isize {
    errno::set(libc::ENOSYS);
    -1
}

macro_rules! functions {
    ($($name:ident $symbol:literal ($($argument:ty),*) -> $result:ty;)*) => {
        $(pub(crate) static $name: Next<unsafe extern "C-unwind" fn($($argument),*) -> $result> =
            Next::new($symbol);)*

        /// Looks every function up, so that no later path, least of all a handler, meets dlsym.
        pub(crate) fn look_up_all() {
            $($name.look_up();)*
        }
    };
}

functions! {
    GETADDRINFO c"getaddrinfo" (*const c_char, *const c_char, *const addrinfo, *mut *mut addrinfo) -> c_int;
    GETHOSTBYNAME c"gethostbyname" (*const c_char) -> *mut hostent;
    GETHOSTBYNAME2 c"gethostbyname2" (*const c_char, c_int) -> *mut hostent;
    GETHOSTBYNAME_R c"gethostbyname_r" (*const c_char, *mut hostent, *mut c_char, usize, *mut *mut hostent, *mut c_int) -> c_int;
    GETHOSTBYNAME2_R c"gethostbyname2_r" (*const c_char, c_int, *mut hostent, *mut c_char, usize, *mut *mut hostent, *mut c_int) -> c_int;
    GETHOSTBYADDR c"gethostbyaddr" (*const c_void, socklen_t, c_int) -> *mut hostent;
    GETHOSTBYADDR_R c"gethostbyaddr_r" (*const c_void, socklen_t, c_int, *mut hostent, *mut c_char, usize, *mut *mut hostent, *mut c_int) -> c_int;
    GETNAMEINFO c"getnameinfo" (*const sockaddr, socklen_t, *mut c_char, socklen_t, *mut c_char, socklen_t, c_int) -> c_int;
    GETHOSTID c"gethostid" () -> c_long;
    RES_MKQUERY c"res_mkquery" (c_int, *const c_char, c_int, c_int, *const u8, c_int, *const u8, *mut u8, c_int) -> c_int;
    RES_MKQUERY_BEFORE_2_34 c"__res_mkquery" (c_int, *const c_char, c_int, c_int, *const u8, c_int, *const u8, *mut u8, c_int) -> c_int;
    CONNECT c"connect" (c_int, *const sockaddr, socklen_t) -> c_int;
    ACCEPT c"accept" (c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    ACCEPT4 c"accept4" (c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int;
    POLL c"poll" (*mut pollfd, nfds_t, c_int) -> c_int;
    PPOLL c"ppoll" (*mut pollfd, nfds_t, *const timespec, *const sigset_t) -> c_int;
    SELECT c"select" (c_int, *mut fd_set, *mut fd_set, *mut fd_set, *mut timeval) -> c_int;
    PSELECT c"pselect" (c_int, *mut fd_set, *mut fd_set, *mut fd_set, *const timespec, *const sigset_t) -> c_int;
    EPOLL_CTL c"epoll_ctl" (c_int, c_int, c_int, *mut epoll_event) -> c_int;
    EPOLL_WAIT c"epoll_wait" (c_int, *mut epoll_event, c_int, c_int) -> c_int;
    EPOLL_PWAIT c"epoll_pwait" (c_int, *mut epoll_event, c_int, c_int, *const sigset_t) -> c_int;
    EPOLL_PWAIT2 c"epoll_pwait2" (c_int, *mut epoll_event, c_int, *const timespec, *const sigset_t) -> c_int;
    READ c"read" (c_int, *mut c_void, usize) -> ssize_t;
    READ_CHK c"__read_chk" (c_int, *mut c_void, usize, usize) -> ssize_t;
    RECV_CHK c"__recv_chk" (c_int, *mut c_void, usize, usize, c_int) -> ssize_t;
    RECVFROM_CHK c"__recvfrom_chk" (c_int, *mut c_void, usize, usize, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t;
    READV c"readv" (c_int, *const iovec, c_int) -> ssize_t;
    RECV c"recv" (c_int, *mut c_void, usize, c_int) -> ssize_t;
    RECVFROM c"recvfrom" (c_int, *mut c_void, usize, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t;
    RECVMSG c"recvmsg" (c_int, *mut msghdr, c_int) -> ssize_t;
    WRITE c"write" (c_int, *const c_void, usize) -> ssize_t;
    WRITEV c"writev" (c_int, *const iovec, c_int) -> ssize_t;
    PREADV2 c"preadv2" (c_int, *const iovec, c_int, i64, c_int) -> ssize_t;
    PWRITEV2 c"pwritev2" (c_int, *const iovec, c_int, i64, c_int) -> ssize_t;
    RECVMMSG c"recvmmsg" (c_int, *mut mmsghdr, c_uint, c_int, *mut timespec) -> c_int;
    SPLICE c"splice" (c_int, *mut i64, c_int, *mut i64, usize, c_uint) -> ssize_t;
    SENDFILE c"sendfile" (c_int, c_int, *mut i64, usize) -> ssize_t;
    CLOSE c"close" (c_int) -> c_int;
    SEND c"send" (c_int, *const c_void, usize, c_int) -> ssize_t;
    SENDTO c"sendto" (c_int, *const c_void, usize, c_int, *const sockaddr, socklen_t) -> ssize_t;
    SENDMSG c"sendmsg" (c_int, *const msghdr, c_int) -> ssize_t;
    SENDMMSG c"sendmmsg" (c_int, *mut mmsghdr, c_uint, c_int) -> c_int;
    GETPEERNAME c"getpeername" (c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    GETSOCKNAME c"getsockname" (c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    GETSOCKOPT c"getsockopt" (c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int;
    SETSOCKOPT c"setsockopt" (c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;
    EXECVE c"execve" (*const c_char, *const *const c_char, *const *const c_char) -> c_int;
    EXECVPE c"execvpe" (*const c_char, *const *const c_char, *const *const c_char) -> c_int;
    FEXECVE c"fexecve" (c_int, *const *const c_char, *const *const c_char) -> c_int;
    EXECVEAT c"execveat" (c_int, *const c_char, *const *const c_char, *const *const c_char, c_int) -> c_int;
    POSIX_SPAWN c"posix_spawn" (*mut pid_t, *const c_char, *const posix_spawn_file_actions_t, *const posix_spawnattr_t, *const *const c_char, *const *const c_char) -> c_int;
    POSIX_SPAWNP c"posix_spawnp" (*mut pid_t, *const c_char, *const posix_spawn_file_actions_t, *const posix_spawnattr_t, *const *const c_char, *const *const c_char) -> c_int;
    SYSTEM c"system" (*const c_char) -> c_int;
    POPEN c"popen" (*const c_char, *const c_char) -> *mut FILE;
    WORDEXP c"wordexp" (*const c_char, *mut c_void, c_int) -> c_int;
    DUP c"dup" (c_int) -> c_int;
    DUP2 c"dup2" (c_int, c_int) -> c_int;
    DUP3 c"dup3" (c_int, c_int, c_int) -> c_int;
    FCNTL c"fcntl" (c_int, c_int, usize) -> c_int;
    FCNTL64 c"fcntl64" (c_int, c_int, usize) -> c_int;
    IOCTL c"ioctl" (c_int, c_ulong, *mut c_int) -> c_int;
    SHUTDOWN c"shutdown" (c_int, c_int) -> c_int;
    SYSCALL c"syscall" (c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;
}
