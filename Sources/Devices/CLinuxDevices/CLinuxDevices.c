// Everything is a static inline of the header.
#include "CLinuxDevices.h"
