#include "CDatapath.h"

// The first thing that a fresh stack runs: the entry function and its argument are its only words. Popping them leaves the stack pointer 16-byte
// aligned before the call, as the System V ABI wants it. The zero frame pointer ends a back-trace.
__asm__(
    ".text\n"
    ".type demi_stack_start, @function\n"
    ".p2align 4\n"
    "demi_stack_start:\n"
    "  xorl %ebp, %ebp\n"
    "  popq %rax\n"
    "  popq %rdi\n"
    "  callq *%rax\n"
    "  ud2\n"
    ".size demi_stack_start, . - demi_stack_start\n"
    ".section .note.GNU-stack,\"\",@progbits\n"
    ".text\n");

extern void demi_stack_start(void);

demi_execution demi_prepare_execution(void *stack_top, void (*entry)(void *), void *argument) {
    void **words = (void **)stack_top - 2;
    words[0] = (void *)entry;
    words[1] = argument;
    return (demi_execution){.instruction = (void *)demi_stack_start, .stack = words, .frame = NULL};
}
