/* Preloaded into a server: counts what it asks of malloc and its like, in the first 8 bytes of the file that
   ALLOCATIONS_FILE names. The file is mapped, so that another process can read the count at any time. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static _Atomic unsigned long early;
static _Atomic unsigned long *count = &early;

__attribute__((constructor)) static void map_the_count(void) {
    const char *path = getenv("ALLOCATIONS_FILE");
    int file = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (file < 0 || ftruncate(file, sizeof *count) != 0) return;
    void *mapped = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) count = mapped;
}

static void add(void) { atomic_fetch_add_explicit(count, 1, memory_order_relaxed); }

void *malloc(size_t bytes) { add(); return __libc_malloc(bytes); }
void *calloc(size_t items, size_t bytes) { add(); return __libc_calloc(items, bytes); }
void *realloc(void *old, size_t bytes) { add(); return __libc_realloc(old, bytes); }
void *memalign(size_t alignment, size_t bytes) { add(); return __libc_memalign(alignment, bytes); }
void *aligned_alloc(size_t alignment, size_t bytes) { add(); return __libc_memalign(alignment, bytes); }

int posix_memalign(void **out, size_t alignment, size_t bytes) {
    add();
    *out = __libc_memalign(alignment, bytes);
    return *out ? 0 : ENOMEM;
}
