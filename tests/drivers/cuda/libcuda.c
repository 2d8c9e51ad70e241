// A libcuda without a GPU, for these tests: device memory is host memory, a module's image is a list of
// kernels ("name threads argument-bytes static-shared-bytes" a line), and a launch of "advance" adds to a
// counter. It holds its caller to the driver's rules (initialise, make a context current, leave a stream
// alone that is being captured), and plays what FAKE_CUDA_* ask for:
//
//     FAKE_CUDA_FAIL        "cuInit=100": that call gives that error;
//                           "cuStreamSynchronize=700*": and all later ones
//     FAKE_CUDA_VERSION     of the driver, 13000
//     FAKE_CUDA_COUNT       GPUs, 1
//     FAKE_CUDA_CAPABILITY  90, for 9.0
//     FAKE_CUDA_MEMORY      bytes, 1073741824
//     FAKE_CUDA_LOG         a file that gets a line for each call
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
       INVALID_HANDLE = 400, NOT_FOUND = 500, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
enum { OPTIN = 227 << 10, UNASKED = 48 << 10, KERNELS = 16, OPERATIONS = 64, ARGUMENTS = 256 };

struct function { char name[64]; int threads, bytes, fixed, dynamic; };
struct module { int kernels; struct function kernel[KERNELS]; };
struct operation { struct function* function; unsigned char arguments[ARGUMENTS]; };
struct graph { int operations; struct operation operation[OPERATIONS]; };
struct event { int recorded; float milliseconds; };
struct block { struct block* next; size_t bytes; void* start; };

static int initialised, references, streams, sticky, capturing, invalidated;
static int the_context, the_stream;
static float now;
static _Thread_local void* current;
static struct graph captured;
static struct block* blocks;
static size_t used;

static long setting(const char* name, long otherwise) {
    const char* value = getenv(name);
    return value ? strtol(value, NULL, 10) : otherwise;
}

// Logs a call; gives the error it must end with, or 0.
static int call(const char* name, const char* details) {
    const char* path = getenv("FAKE_CUDA_LOG");
    FILE* log = path ? fopen(path, "a") : NULL;
    if (log) {
        fprintf(log, "%s%s\n", name, details);
        fclose(log);
    }
    if (sticky) return sticky;
    const char* failures = getenv("FAKE_CUDA_FAIL");
    const size_t length = strlen(name);
    if (!failures || strncmp(failures, name, length) != 0 || failures[length] != '=') return 0;
    char* end;
    const int code = (int)strtol(failures + length + 1, &end, 10);
    if (*end == '*') sticky = code;
    return code;
}
#define CALL(...)                                              \
    do {                                                       \
        char details[1024];                                    \
        snprintf(details, sizeof details, " " __VA_ARGS__);    \
        const int failure = call(__func__, details);           \
        if (failure) return failure;                           \
    } while (0)
// Errors of a caller who breaks the rules.
#define NEED(condition, code) \
    do {                      \
        if (!(condition)) return code; \
    } while (0)
#define IN_CONTEXT \
    NEED(initialised, NOT_INITIALIZED); \
    NEED(current == &the_context && references, INVALID_CONTEXT)
// Not while capturing, which it would spoil.
#define NOT_CAPTURED                    \
    do {                                \
        if (capturing) {                \
            invalidated = 1;            \
            return CAPTURE_UNSUPPORTED; \
        }                               \
    } while (0)

static struct block* block_of(uint64_t address, size_t bytes) {
    for (struct block* b = blocks; b; b = b->next) {
        const uint64_t start = (uint64_t)(uintptr_t)b->start;
        if (address >= start && address + bytes <= start + b->bytes) return b;
    }
    return NULL;
}

static void run(const struct operation* operation) {
    if (strcmp(operation->function->name, "advance") != 0) return;
    uint32_t* counter;
    uint32_t by;
    memcpy(&counter, operation->arguments, sizeof counter);
    memcpy(&by, operation->arguments + sizeof counter, sizeof by);
    *counter += by;
}

int cuInit(unsigned flags) {
    CALL("%u", flags);
    initialised = 1;
    return 0;
}
int cuDriverGetVersion(int* version) {
    CALL();
    *version = (int)setting("FAKE_CUDA_VERSION", 13000);
    return 0;
}
static const struct { int code; const char *name, *text; } ERRORS[] = {
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};
int cuGetErrorName(int code, const char** name) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return *name = ERRORS[i].name, 0;
    return *name = NULL, INVALID_VALUE;
}
int cuGetErrorString(int code, const char** text) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return *text = ERRORS[i].text, 0;
    return *text = NULL, INVALID_VALUE;
}

int cuDeviceGetCount(int* count) {
    CALL();
    NEED(initialised, NOT_INITIALIZED);
    *count = (int)setting("FAKE_CUDA_COUNT", 1);
    return 0;
}
int cuDeviceGet(int* device, int ordinal) {
    CALL("%d", ordinal);
    NEED(initialised, NOT_INITIALIZED);
    NEED(ordinal >= 0 && ordinal < setting("FAKE_CUDA_COUNT", 1), INVALID_DEVICE);
    *device = ordinal;
    return 0;
}
int cuDeviceGetName(char* name, int length, int device) {
    CALL("%d", device);
    snprintf(name, (size_t)length, "Fake GPU");
    return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    CALL("%d %d", attribute, device);
    const int capability = (int)setting("FAKE_CUDA_CAPABILITY", 90);
    switch (attribute) {
        case 16: *value = 132; return 0;              // MULTIPROCESSOR_COUNT
        case 75: *value = capability / 10; return 0;  // COMPUTE_CAPABILITY_MAJOR
        case 76: *value = capability % 10; return 0;  // COMPUTE_CAPABILITY_MINOR
        case 97: *value = OPTIN; return 0;            // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    }
    return INVALID_VALUE;
}
int cuDeviceTotalMem_v2(size_t* bytes, int device) {
    CALL("%d", device);
    *bytes = (size_t)setting("FAKE_CUDA_MEMORY", 1 << 30);
    return 0;
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
    CALL("%d", device);
    NEED(initialised, NOT_INITIALIZED);
    references++;
    *context = &the_context;
    return 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
    CALL("%d, %zu bytes and %d streams left", device, used, streams);
    NEED(references > 0, INVALID_CONTEXT);
    references--;
    return 0;
}
int cuCtxSetCurrent(void* context) {
    CALL();
    NEED(context == &the_context && references, INVALID_CONTEXT);
    current = context;
    return 0;
}

int cuStreamCreate(void** stream, unsigned flags) {
    CALL("%u", flags);
    IN_CONTEXT;
    streams++;
    *stream = &the_stream;
    return 0;
}
int cuStreamDestroy_v2(void* stream) {
    CALL();
    IN_CONTEXT;
    NEED(stream == &the_stream, INVALID_HANDLE);
    streams--;
    return 0;
}
int cuStreamSynchronize(void* stream) {
    CALL();
    IN_CONTEXT;
    NEED(stream == &the_stream, INVALID_HANDLE);
    NOT_CAPTURED;
    return 0;
}
int cuStreamBeginCapture_v2(void* stream, int mode) {
    CALL("%d", mode);
    IN_CONTEXT;
    NEED(stream == &the_stream, INVALID_HANDLE);
    NEED(!capturing, INVALID_VALUE);
    capturing = 1, invalidated = 0, captured.operations = 0;
    return 0;
}
int cuStreamEndCapture(void* stream, struct graph** graph) {
    CALL("%d operations", captured.operations);
    IN_CONTEXT;
    NEED(stream == &the_stream, INVALID_HANDLE);
    NEED(capturing, INVALID_VALUE);
    capturing = 0;
    *graph = NULL;
    NEED(!invalidated, CAPTURE_INVALIDATED);
    *graph = malloc(sizeof **graph);
    **graph = captured;
    return 0;
}

int cuGraphInstantiateWithFlags(struct graph** executable, struct graph* graph, unsigned long long flags) {
    CALL("%llu", flags);
    IN_CONTEXT;
    NEED(graph, INVALID_VALUE);
    *executable = malloc(sizeof **executable);
    **executable = *graph;
    return 0;
}
int cuGraphDestroy(struct graph* graph) {
    CALL();
    free(graph);
    return 0;
}
int cuGraphExecDestroy(struct graph* executable) {
    CALL();
    free(executable);
    return 0;
}
int cuGraphLaunch(struct graph* executable, void* stream) {
    CALL("%d operations", executable->operations);
    IN_CONTEXT;
    NEED(stream == &the_stream, INVALID_HANDLE);
    NOT_CAPTURED;
    for (int i = 0; i < executable->operations; i++) run(&executable->operation[i]);
    return 0;
}

int cuModuleLoadData(struct module** module, const char* image) {
    CALL();
    IN_CONTEXT;
    struct module* m = calloc(1, sizeof *m);
    for (int n; m->kernels < KERNELS; image += n, m->kernels++) {
        struct function* f = &m->kernel[m->kernels];
        if (sscanf(image, "%63s %d %d %d%n", f->name, &f->threads, &f->bytes, &f->fixed, &n) != 4) break;
        f->dynamic = f->fixed < UNASKED ? UNASKED - f->fixed : 0;
    }
    *module = m;
    return 0;
}
int cuModuleUnload(struct module* module) {
    CALL();
    IN_CONTEXT;
    free(module);
    return 0;
}
int cuModuleGetFunction(struct function** function, struct module* module, const char* name) {
    CALL("%s", name);
    IN_CONTEXT;
    for (int i = 0; i < module->kernels; i++)
        if (strcmp(module->kernel[i].name, name) == 0) return *function = &module->kernel[i], 0;
    return NOT_FOUND;
}
int cuModuleGetFunctionCount(unsigned* count, struct module* module) {
    CALL();
    IN_CONTEXT;
    *count = (unsigned)module->kernels;
    return 0;
}
int cuModuleEnumerateFunctions(struct function** functions, unsigned count, struct module* module) {
    CALL("%u", count);
    IN_CONTEXT;
    for (unsigned i = 0; i < count && i < (unsigned)module->kernels; i++) functions[i] = &module->kernel[i];
    return 0;
}
int cuFuncLoad(const struct function* function) {
    CALL("%s", function->name);
    IN_CONTEXT;
    return 0;
}
int cuFuncGetAttribute(int* value, int attribute, const struct function* function) {
    CALL("%s %d", function->name, attribute);
    switch (attribute) {
        case 0: *value = function->threads; return 0;  // MAX_THREADS_PER_BLOCK
        case 1: *value = function->fixed; return 0;    // SHARED_SIZE_BYTES
        case 8: *value = function->dynamic; return 0;  // MAX_DYNAMIC_SHARED_SIZE_BYTES
    }
    return INVALID_VALUE;
}
int cuFuncSetAttribute(struct function* function, int attribute, int value) {
    CALL("%s %d %d", function->name, attribute, value);
    IN_CONTEXT;
    NEED(attribute == 8 && value >= 0 && value + function->fixed <= OPTIN, INVALID_VALUE);
    function->dynamic = value;
    return 0;
}
int cuFuncGetParamInfo(const struct function* function, size_t index, size_t* offset, size_t* bytes) {
    CALL("%s %zu", function->name, index);
    NEED(index == 0, INVALID_VALUE);
    *offset = 0, *bytes = (size_t)function->bytes;
    return 0;
}
int cuLaunchKernel(struct function* function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void* stream, void** parameters, void** extra) {
    char bytes[2 * ARGUMENTS + 1] = "";
    for (int i = 0; i < function->bytes; i++)
        snprintf(bytes + 2 * i, 3, "%02x", ((const unsigned char*)parameters[0])[i]);
    CALL("%s %ux%ux%u %ux%ux%u %u %s", function->name, x, y, z, bx, by, bz, shared, bytes);
    IN_CONTEXT;
    NEED(stream == &the_stream && !extra, INVALID_HANDLE);
    NEED(x && y && z && bx && by && bz, INVALID_VALUE);
    NEED(bx * by * bz <= (unsigned)function->threads && shared <= (unsigned)function->dynamic, INVALID_VALUE);
    struct operation operation = {.function = function};
    memcpy(operation.arguments, parameters[0], (size_t)function->bytes);
    if (!capturing) return run(&operation), 0;
    NEED(captured.operations < OPERATIONS, OUT_OF_MEMORY);
    captured.operation[captured.operations++] = operation;
    return 0;
}

int cuMemGetInfo_v2(size_t* available, size_t* total) {
    CALL();
    IN_CONTEXT;
    *total = (size_t)setting("FAKE_CUDA_MEMORY", 1 << 30);
    *available = *total - used;
    return 0;
}
int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    CALL("%zu", bytes);
    IN_CONTEXT;
    NEED(bytes, INVALID_VALUE);
    NEED(bytes <= (size_t)setting("FAKE_CUDA_MEMORY", 1 << 30) - used, OUT_OF_MEMORY);
    struct block* b = malloc(sizeof *b);
    b->bytes = bytes, b->next = blocks, b->start = aligned_alloc(256, (bytes + 255) / 256 * 256);
    blocks = b, used += bytes;
    *address = (uint64_t)(uintptr_t)b->start;
    return 0;
}
int cuMemFree_v2(uint64_t address) {
    CALL();
    IN_CONTEXT;
    for (struct block** b = &blocks; *b; b = &(*b)->next) {
        if ((uint64_t)(uintptr_t)(*b)->start != address) continue;
        struct block* gone = *b;
        *b = gone->next, used -= gone->bytes;
        free(gone->start), free(gone);
        return 0;
    }
    return INVALID_VALUE;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    CALL("%zu", bytes);
    IN_CONTEXT;
    NEED(stream == &the_stream, INVALID_HANDLE);
    NEED(block_of(to, bytes), INVALID_VALUE);
    NOT_CAPTURED;
    memcpy((void*)(uintptr_t)to, from, bytes);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    CALL("%zu", bytes);
    IN_CONTEXT;
    NEED(stream == &the_stream, INVALID_HANDLE);
    NEED(block_of(from, bytes), INVALID_VALUE);
    NOT_CAPTURED;
    memcpy(to, (void*)(uintptr_t)from, bytes);
    return 0;
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void* stream) {
    CALL("%d %zu", value, bytes);
    IN_CONTEXT;
    NEED(stream == &the_stream, INVALID_HANDLE);
    NEED(block_of(to, bytes), INVALID_VALUE);
    NOT_CAPTURED;
    memset((void*)(uintptr_t)to, value, bytes);
    return 0;
}

int cuEventCreate(struct event** event, unsigned flags) {
    CALL("%u", flags);
    IN_CONTEXT;
    *event = calloc(1, sizeof **event);
    return 0;
}
int cuEventRecord(struct event* event, void* stream) {
    CALL();
    IN_CONTEXT;
    NEED(stream == &the_stream, INVALID_HANDLE);
    NOT_CAPTURED;
    event->recorded = 1, event->milliseconds = now += 1.5f;
    return 0;
}
int cuEventSynchronize(struct event* event) {
    CALL();
    NEED(event->recorded, INVALID_HANDLE);
    return 0;
}
int cuEventElapsedTime(float* milliseconds, struct event* from, struct event* to) {
    CALL();
    NEED(from->recorded && to->recorded, INVALID_HANDLE);
    *milliseconds = to->milliseconds - from->milliseconds;
    return 0;
}
int cuEventDestroy_v2(struct event* event) {
    CALL();
    free(event);
    return 0;
}
