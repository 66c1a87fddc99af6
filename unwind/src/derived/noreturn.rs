//! Names of functions that never return, in libraries that other files call.
//!
//! What such a call is followed by belongs to another path, or to another function. Functions of
//! the same file are recognized by their code.

/// Functions of the C library, the C++ runtime, the unwinder and languages.
const NAMES: [&str; 48] = [
    "_Exit",
    "_Unwind_Resume",
    "_ZN9__gnu_cxx26__throw_insufficient_spaceEPKcS1_",
    "_ZSt9terminatev",
    "_ZSt10unexpectedv",
    "__assert",
    "__assert_fail",
    "__assert_perror_fail",
    "__chk_fail",
    "__clang_call_terminate",
    "__cxa_bad_cast",
    "__cxa_bad_typeid",
    "__cxa_call_terminate",
    "__cxa_call_unexpected",
    "__cxa_deleted_virtual",
    "__cxa_pure_virtual",
    "__cxa_rethrow",
    "__cxa_throw",
    "__cxa_throw_bad_array_new_length",
    "__fortify_fail",
    "__libc_fatal",
    "__libc_start_main",
    "__longjmp_chk",
    "__pthread_unwind",
    "__pthread_unwind_next",
    "__stack_chk_fail",
    "_exit",
    "_longjmp",
    "abort",
    "err",
    "errx",
    "exit",
    "g_abort",
    "g_assertion_message",
    "g_assertion_message_cmpnum",
    "g_assertion_message_cmpstr",
    "g_assertion_message_error",
    "g_assertion_message_expr",
    "g_thread_exit",
    "longjmp",
    "obstack_alloc_failed_handler",
    "png_error",
    "pthread_exit",
    "quick_exit",
    "siglongjmp",
    "thrd_exit",
    "verr",
    "verrx",
];

/// Returns whether the function of this name never returns.
pub(super) fn is_noreturn(name: &[u8]) -> bool {
    NAMES.iter().any(|known| known.as_bytes() == name) || is_standard_throw(name)
}

/// Returns whether a function throws an exception for the standard library of C++:
/// `std::__throw_length_error` and others like it.
fn is_standard_throw(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"_ZSt") else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && rest[digits..].starts_with(b"__throw_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throws_of_the_standard_library_never_return() {
        assert!(is_noreturn(b"abort"));
        assert!(is_noreturn(b"_ZSt20__throw_length_errorPKc"));
        assert!(!is_noreturn(b"_ZSt4cout"));
        assert!(!is_noreturn(b"free"));
    }
}
