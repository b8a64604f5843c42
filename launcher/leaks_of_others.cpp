// What the leak checker of a sanitizer build asks before it reports: leaks of the libraries that are not ours.
#include <link.h>

#include <cstring>

// NOLINTBEGIN: names that the sanitizers look for
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_options();
extern "C" const char* __asan_default_options();
extern "C" int __lsan_is_turned_off();

// UCX 1.13 keeps some 300 bytes of its configuration for ever; HDF5 1.10 some of a file that it could not write.
extern "C" const char* __lsan_default_suppressions() { return "leak:libucs\nleak:libuct\nleak:libucp\nleak:libhdf5\n"; }

extern "C" const char* __lsan_default_options() { return "print_suppressions=0"; }

// To find a leak suppressed takes no symbols, and their reader complains on stderr where processes are limited.
extern "C" const char* __asan_default_options() { return "symbolize=0"; }

// Open MPI leaks from modules that it has unloaded: nothing can tell those from ours.
extern "C" int __lsan_is_turned_off() {
  const auto is_mpi = [](dl_phdr_info* library, size_t, void*) {
    return std::strstr(library->dlpi_name, "libmpi.so") != nullptr ? 1 : 0;
  };
  return dl_iterate_phdr(is_mpi, nullptr);
}
// NOLINTEND
