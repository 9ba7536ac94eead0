/* S2 and W2 without their fence: either side may miss what the other has just stored. */
#define FENCE_WAKEUP memory_order_relaxed
#define VARIANT wakeup_fence
#include "whole.h"
