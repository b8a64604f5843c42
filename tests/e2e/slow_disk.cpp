// Preloaded into a program: gives a checkpoint its name as slowly as a disk over a network that has other things to do,
// longer than a link may be silent (net::LinkOptions).
#include <dlfcn.h>
#include <unistd.h>

#include <string_view>

extern "C" int rename(const char* from, const char* to) {
  static const auto real = reinterpret_cast<int (*)(const char*, const char*)>(dlsym(RTLD_NEXT, "rename"));
  const std::string_view path(from);
  if (path.substr(path.rfind('/') + 1).starts_with(".tmp-step-")) ::sleep(7);
  return real(from, to);
}
