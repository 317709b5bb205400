// The published layouts, as Demikernel 1.5 has them on Linux.
#include <demi/extra.h>
#include <demi/libos.h>
#include <demi/sga.h>

_Static_assert(sizeof(demi_qtoken_t) == 8, "demi_qtoken_t");

_Static_assert(sizeof(demi_sgaseg_t) == 12, "demi_sgaseg_t");
_Static_assert(offsetof(demi_sgaseg_t, sgaseg_buf) == 0, "sgaseg_buf");
_Static_assert(offsetof(demi_sgaseg_t, sgaseg_len) == 8, "sgaseg_len");

_Static_assert(sizeof(demi_sgarray_t) == 40, "demi_sgarray_t");
_Static_assert(offsetof(demi_sgarray_t, sga_buf) == 0, "sga_buf");
_Static_assert(offsetof(demi_sgarray_t, sga_numsegs) == 8, "sga_numsegs");
_Static_assert(offsetof(demi_sgarray_t, sga_segs) == 12, "sga_segs");
_Static_assert(offsetof(demi_sgarray_t, sga_addr) == 24, "sga_addr");

_Static_assert(sizeof(demi_accept_result_t) == 20, "demi_accept_result_t");
_Static_assert(offsetof(demi_accept_result_t, qd) == 0, "qd");
_Static_assert(offsetof(demi_accept_result_t, addr) == 4, "addr");

_Static_assert(sizeof(demi_qresult_t) == 64, "demi_qresult_t");
_Static_assert(offsetof(demi_qresult_t, qr_opcode) == 0, "qr_opcode");
_Static_assert(offsetof(demi_qresult_t, qr_qd) == 4, "qr_qd");
_Static_assert(offsetof(demi_qresult_t, qr_qt) == 8, "qr_qt");
_Static_assert(offsetof(demi_qresult_t, qr_ret) == 16, "qr_ret");
_Static_assert(offsetof(demi_qresult_t, qr_value) == 24, "qr_value");

_Static_assert(sizeof(struct demi_args) == 20, "demi_args");
_Static_assert(offsetof(struct demi_args, argc) == 0, "argc");
_Static_assert(offsetof(struct demi_args, argv) == 4, "argv");
_Static_assert(offsetof(struct demi_args, callback) == 12, "callback");

_Static_assert(sizeof(demi_opcode_t) == 4 && DEMI_OPC_FAILED == 6, "demi_opcode_t");
_Static_assert(sizeof(struct demi_statistics) == 104, "demi_statistics");
