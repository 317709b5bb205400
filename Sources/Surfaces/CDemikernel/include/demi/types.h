/* The types of the interface. Their sizes and offsets are those of Demikernel 1.5. */
#ifndef DEMI_TYPES_H_IS_INCLUDED
#define DEMI_TYPES_H_IS_INCLUDED

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <demi/cc.h>

DEMI_EXTERN_BEGIN

/* Names one pending or completed operation until a wait redeems it, once. */
typedef uint64_t demi_qtoken_t;

/* Segments in a demi_sgarray_t. Arrays of up to 16 segments: demi_pushv, demi_popv in <demi/extra.h>. */
#define DEMI_SGARRAY_MAXSIZE 1

/* One segment of a scatter-gather array. */
typedef struct DEMI_PACKED demi_sgaseg
{
    void *sgaseg_buf;     /* its first byte */
    uint32_t sgaseg_len;  /* its length in bytes */
} demi_sgaseg_t;

/*
 * A scatter-gather array of the library's memory, which belongs to the program until demi_sgafree. The program may narrow its segment before a
 * push: a later start, fewer bytes.
 */
typedef struct DEMI_PACKED demi_sgarray
{
    void *sga_buf;                                  /* the library's own: leave it as it is */
    uint32_t sga_numsegs;                           /* 0 where no array could be had */
    demi_sgaseg_t sga_segs[DEMI_SGARRAY_MAXSIZE];
    struct sockaddr_in sga_addr;                    /* where a datagram came from */
} demi_sgarray_t;

/* A new connection. */
typedef struct DEMI_PACKED demi_accept_result
{
    int32_t qd;                /* its queue descriptor */
    struct sockaddr_in addr;   /* its peer; of IPv6 family and port, of AF_UNIX the family; the rest by demi_getpeername */
} demi_accept_result_t;

/* What an operation was. */
typedef enum demi_opcode
{
    DEMI_OPC_INVALID = 0,
    DEMI_OPC_PUSH,
    DEMI_OPC_POP,
    DEMI_OPC_ACCEPT,
    DEMI_OPC_CONNECT,
    DEMI_OPC_CLOSE,
    DEMI_OPC_FAILED
} demi_opcode_t;

/* The result of one operation. */
typedef struct DEMI_PACKED demi_qresult
{
    enum demi_opcode qr_opcode;  /* DEMI_OPC_FAILED for any that failed */
    int32_t qr_qd;               /* the queue on which it was issued */
    demi_qtoken_t qr_qt;         /* the token that was redeemed */
    int64_t qr_ret;              /* 0, or the errno of an operation that failed */
    union
    {
        demi_sgarray_t sga;          /* of DEMI_OPC_POP */
        demi_accept_result_t ares;   /* of DEMI_OPC_ACCEPT */
    } qr_value;
} demi_qresult_t;

DEMI_EXTERN_END

#endif /* DEMI_TYPES_H_IS_INCLUDED */
