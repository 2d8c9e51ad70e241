// The thread whose coroutine runs on this host thread.
#include "emulated.cuh"

thread_local EmulatedThread* fishmask_thread = nullptr;

extern "C" void fishmask_set_thread(EmulatedThread* thread) { fishmask_thread = thread; }
