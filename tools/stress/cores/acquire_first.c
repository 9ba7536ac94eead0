/* P1 without its acquire: a slot may be written before the `first` that frees it. */
#define ORDER_ACQUIRE_FIRST memory_order_relaxed
#define VARIANT acquire_first
#include "whole.h"
