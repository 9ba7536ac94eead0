/* C3 without its release: `first` may be seen before the entries have been read. */
#define ORDER_RELEASE_FIRST memory_order_relaxed
#define VARIANT release_first
#include "whole.h"
