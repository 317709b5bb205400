/* What the other headers need of the compiler: C99 and later, C++11 and later. */
#ifndef DEMI_CC_H_IS_INCLUDED
#define DEMI_CC_H_IS_INCLUDED

#if !defined(__linux__) || !defined(__x86_64__)
#error "Demikernel's binary interface is that of Linux on x86-64."
#endif

/* The published layouts have no padding. */
#define DEMI_PACKED __attribute__((__packed__))

#ifdef __cplusplus
#define DEMI_EXTERN_BEGIN extern "C" {
#define DEMI_EXTERN_END }
#else
#define DEMI_EXTERN_BEGIN
#define DEMI_EXTERN_END
#endif

#endif /* DEMI_CC_H_IS_INCLUDED */
