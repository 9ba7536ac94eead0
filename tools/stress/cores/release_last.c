/* P3 without its release: `last` may be seen before the entries that it counts in. */
#define ORDER_RELEASE_LAST memory_order_relaxed
#define VARIANT release_last
#include "whole.h"
