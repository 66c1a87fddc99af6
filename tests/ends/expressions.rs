//! Call frames whose CFA is computed by an expression, or from a register that few use.

use crate::common::alone;
use crate::{KNOWN, assembly, check_program};

/// Checks a function `middle` of assembly that calls `leaf`, or spins itself if `leaf` is none.
fn check_middle(body: &str, chain: &[&str], what: &str) {
    let main = format!(
        "{KNOWN}
void middle(void);
N void leaf(void) {{ spin(); sink++; }}
int main(void)
{{
	while (runs())
		middle();
	return 0;
}}
"
    );
    let body = format!(".cfi_startproc; {body}; .cfi_endproc");
    let sources = [("main.c", main), assembly("middle", &body)];
    check_program("gcc", &sources, &["-O1", "-fomit-frame-pointer"], chain, what);
}

/// SBCL's `call_into_lisp`: CFA = *rbp + 16. Compilers write that with `DW_OP_plus_uconst`.
#[test]
fn constants_are_added_in_any_way() {
    let _alone = alone();
    let ways = [
        ("lit16 plus", "0x0f,5,0x76,0,0x06,0x40,0x22"),
        ("const1u 16 plus", "0x0f,6,0x76,0,0x06,0x08,16,0x22"),
        ("lit24 plus lit8 minus", "0x0f,7,0x76,0,0x06,0x48,0x22,0x38,0x1c"),
        ("lit16 first", "0x0f,5,0x40,0x76,0,0x06,0x22"),
    ];
    for (what, escape) in ways {
        let body = format!(
            "push %rbp; mov %rsp, %rbp; .cfi_def_cfa rbp, 16; .cfi_offset rbp, -16; push %rbp; \
             mov %rsp, %rbp; .cfi_escape {escape}; call leaf; pop %rbp; .cfi_def_cfa rbp, 16; \
             pop %rbp; .cfi_def_cfa rsp, 8; ret"
        );
        check_middle(&body, &["main", "middle", "leaf", "spin"], what);
    }
}

/// GHC's runtime: the caller's sp has a rule of its own, and all else is relative to another CFA.
#[test]
fn callers_sp_by_an_expression() {
    let _alone = alone();
    // rsp + 24 as the caller's sp; the return address at rsp + 16, and fp as it was.
    let ways = [
        ("from sp", ".cfi_def_cfa rsp, 0; .cfi_escape 0x16,7,2,0x77,24; .cfi_offset rip, 16"),
        ("from the CFA", ".cfi_def_cfa rsp, 8; .cfi_escape 0x16,7,2,0x23,16; .cfi_offset rip, 8"),
        ("by an offset", ".cfi_def_cfa rsp, 8; .cfi_val_offset rsp, 16; .cfi_offset rip, 8"),
    ];
    for (what, frame) in ways {
        let body = format!(
            "sub $16, %rsp; {frame}; call spin; add $16, %rsp; .cfi_restore rsp; \
             .cfi_restore rip; .cfi_def_cfa rsp, 8; ret"
        );
        check_middle(&body, &["main", "middle", "spin"], what);
    }
}

/// The assembly of OpenSSL keeps the CFA in a register that functions may change, and calls parts
/// of its own which do not.
#[test]
fn cfa_in_a_volatile_register_of_the_calling_function() {
    let _alone = alone();
    for register in ["rax", "r11"] {
        let body = format!(
            "mov %rsp, %{register}; .cfi_def_cfa_register {register}; sub $88, %rsp; \
             and $-64, %rsp; call part; mov %{register}, %rsp; .cfi_def_cfa_register rsp; ret; \
             .cfi_endproc; .size middle, . - middle; .type part, @function; part: \
             .cfi_startproc; mov $300000, %ecx; 1: dec %ecx; jnz 1b; ret"
        );
        check_middle(&body, &["main", "middle", "part"], register);
    }
}

/// Its multiplication keeps the CFA in a word of the stack that another register counts.
#[test]
fn cfa_in_an_indexed_word_of_the_stack() {
    let _alone = alone();
    let body = "mov %rsp, %rax; .cfi_def_cfa_register rax; mov $9, %r9; sub $160, %rsp; \
                and $-64, %rsp; mov %rax, 8(%rsp,%r9,8); \
                .cfi_escape 0x0f,10,0x77,8,0x79,0,0x38,0x1e,0x22,0x06,0x23,8; \
                mov $300000, %ecx; 1: dec %ecx; jnz 1b; mov 8(%rsp,%r9,8), %rsp; \
                .cfi_def_cfa rsp, 8; ret";
    check_middle(body, &["main", "middle"], "indexed");
    let saved = body.replace("%r9", "%r10").replace("0x79", "0x7a");
    check_middle(&saved, &["main", "middle"], "indexed by another register");
}
