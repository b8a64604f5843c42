// UCX 1.13 keeps some 300 bytes of its configuration for ever; the leak checker of a sanitizer build asks here.
extern "C" const char* __lsan_default_suppressions();  // NOLINT: the sanitizer's name

extern "C" const char* __lsan_default_suppressions() { return "leak:libucs\nleak:libuct\nleak:libucp\n"; }
