/* C1 without its acquire: entries may be read before the `last` that counts them in. */
#define ORDER_ACQUIRE_LAST memory_order_relaxed
#define VARIANT acquire_last
#include "whole.h"
