#include "CDatapath.h"
