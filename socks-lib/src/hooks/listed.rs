//! execl(3), execlp(3), execle(3): the arguments of the new program are those of the call.
//!
//! The first of them are in registers and the others on the stack, one word each (System V ABI, AAPCS64).
//! With the registers stored just below, the call's arguments *are* the list that execv(3) takes, however
//! long: nothing is counted or copied.

use std::arch::naked_asm;
use std::ffi::{c_char, c_int};

use crate::hooks::process::executed;
use crate::kept::{Environment, own_environment};
use crate::next;

macro_rules! listed {
    ($($(#[$doc:meta])* fn $name:ident => $listed:ident;)*) => {
        $($(#[$doc])*
        ///
        /// No cancellation point, and no panic comes out of the gate: nothing unwinds through.
        ///
        /// # Safety
        /// The C contract: C strings, the last one followed by a null.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C-unwind" fn $name(_path: *const c_char, _first: *const c_char) -> c_int {
            #[cfg(target_arch = "x86_64")]
            naked_asm!(
                "pop r10", // the return address, whose place the list needs
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rsi, rsp",
                "push r10", // and a multiple of 16 octets
                "call {listed}",
                "pop r10",
                "add rsp, 40",
                "push r10", // not a jump: shadow stacks count
                "ret",
                listed = sym $listed,
            );
            #[cfg(target_arch = "aarch64")]
            naked_asm!(
                "stp x29, x30, [sp, #-80]!",
                "mov x29, sp",
                "str x1, [sp, #24]",
                "stp x2, x3, [sp, #32]",
                "stp x4, x5, [sp, #48]",
                "stp x6, x7, [sp, #64]",
                "add x1, sp, #24",
                "bl {listed}",
                "ldp x29, x30, [sp], #80",
                "ret",
                listed = sym $listed,
            );
        })*
    };
}

listed! {
    /// `execl(3)`: async-signal-safe.
    fn execl => by_path;
    /// `execlp(3)`.
    fn execlp => by_file;
    /// `execle(3)`: async-signal-safe.
    fn execle => with_environment;
}

/// # Safety
/// The C contract of execv(3).
unsafe extern "C-unwind" fn by_path(path: *const c_char, list: Environment) -> c_int {
    // SAFETY: our caller's contract; environ(7) is a list that ends in null.
    unsafe { executed(own_environment(), |env| next::EXECVE.get()(path, list, env)) }
}

/// # Safety
/// The C contract of execvp(3).
unsafe extern "C-unwind" fn by_file(file: *const c_char, list: Environment) -> c_int {
    // SAFETY: our caller's contract; environ(7) is a list that ends in null.
    unsafe {
        executed(own_environment(), |env| {
            next::EXECVPE.get()(file, list, env)
        })
    }
}

/// # Safety
/// As [`by_path`], with the environment behind the null that ends the list.
unsafe extern "C-unwind" fn with_environment(path: *const c_char, list: Environment) -> c_int {
    let mut end = list;
    // SAFETY: our caller's contract: not behind the null.
    while !unsafe { end.read() }.is_null() {
        // SAFETY: not the end.
        end = unsafe { end.add(1) };
    }
    // SAFETY: our caller's contract: one more argument.
    let environment = unsafe { end.add(1).cast::<Environment>().read() };
    // SAFETY: our caller's contract.
    unsafe { executed(environment, |env| next::EXECVE.get()(path, list, env)) }
}
