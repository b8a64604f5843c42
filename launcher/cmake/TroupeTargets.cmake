# troupe_library, troupe_test, troupe_bench: one line a target, explicit source lists, warnings for all.

add_library(troupe_warnings INTERFACE)
target_compile_options(troupe_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wno-unused-parameter)
if(TROUPE_WERROR)
  target_compile_options(troupe_warnings INTERFACE -Werror)
endif()

if(TROUPE_SANITIZE)
  string(REPLACE "," ";" sanitizers "${TROUPE_SANITIZE}")
  foreach(sanitizer IN LISTS sanitizers)
    add_compile_options(-fsanitize=${sanitizer} -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${sanitizer})
    if(sanitizer STREQUAL "undefined")
      add_compile_options(-fno-sanitize-recover=undefined)
    endif()
  endforeach()
endif()

if(CMAKE_LINKER_TYPE STREQUAL "LLD")
  add_link_options(-fuse-ld=lld-19)
endif()
find_program(TROUPE_CCACHE ccache)
if(TROUPE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TROUPE_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${TROUPE_CCACHE})
endif()

# troupe_library(NAME [APART] [DEPS target…] [SOURCES file…]): static library troupe_NAME, alias troupe::NAME.
# DEPS are troupe libraries (by short name) or imported targets (with ::). APART: no unity build.
function(troupe_library name)
  cmake_parse_arguments(arg "APART" "" "DEPS;SOURCES" ${ARGN})
  add_library(troupe_${name} STATIC ${arg_SOURCES})
  add_library(troupe::${name} ALIAS troupe_${name})
  if(arg_APART)
    set_target_properties(troupe_${name} PROPERTIES UNITY_BUILD OFF)
  endif()
  target_include_directories(troupe_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(troupe_${name} PRIVATE troupe_warnings)
  foreach(dep IN LISTS arg_DEPS)
    if(dep MATCHES "::")
      target_link_libraries(troupe_${name} PUBLIC ${dep})
    else()
      target_link_libraries(troupe_${name} PUBLIC troupe::${dep})
    endif()
  endforeach()
endfunction()

# troupe_capnp(TARGET schema.capnp…): compiles Cap'n Proto schemas into the target. Included by their path from the
# root: "actors/train/plan.capnp.h". The shim that C++20 needs is put before what the compiler writes.
function(troupe_capnp target)
  set(out ${PROJECT_BINARY_DIR}/capnp)
  foreach(schema IN LISTS ARGN)
    set(path ${CMAKE_CURRENT_SOURCE_DIR}/${schema})
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${path})
    add_custom_command(
      OUTPUT ${out}/${name}.h ${out}/${name}.c++
      COMMAND ${CMAKE_COMMAND} -E make_directory ${out}
      COMMAND ${CAPNP_COMPILER} compile --import-path=${PROJECT_SOURCE_DIR} --src-prefix=${PROJECT_SOURCE_DIR}
              -o${CAPNP_CPP}:${out} ${path}
      COMMAND sed -i "1i #include \"runtime/wire/capnp_shim.h\"" ${out}/${name}.h
      DEPENDS ${path} VERBATIM)
    target_sources(${target} PRIVATE ${out}/${name}.c++ ${out}/${name}.h)
    set_source_files_properties(${out}/${name}.c++ PROPERTIES COMPILE_OPTIONS -w)
  endforeach()
  target_include_directories(${target} SYSTEM PUBLIC ${out})
  target_link_libraries(${target} PUBLIC CapnProto::capnp)
endfunction()

# troupe_test(NAME [LABELS …] [TIMEOUT s] [PROGRAM] DEPS … SOURCES …): one GoogleTest program, known to ctest.
# PROGRAM: it runs the program `troupe`, found as TROUPE_BINARY.
function(troupe_test name)
  cmake_parse_arguments(arg "PROGRAM" "TIMEOUT" "LABELS;DEPS;SOURCES" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE troupe_warnings GTest::gtest GTest::gmock GTest::gtest_main)
  foreach(dep IN LISTS arg_DEPS)
    target_link_libraries(${name} PRIVATE troupe::${dep})
  endforeach()
  target_compile_definitions(${name} PRIVATE TROUPE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(arg_PROGRAM)
    add_dependencies(${name} troupe)
    target_compile_definitions(${name} PRIVATE TROUPE_BINARY="$<TARGET_FILE:troupe>")
  endif()
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
    SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\].*every test")
endfunction()

# troupe_bench(NAME DEPS … SOURCES …): one Google Benchmark program; never run as a test.
function(troupe_bench name)
  cmake_parse_arguments(arg "" "" "DEPS;SOURCES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE troupe_warnings benchmark::benchmark_main)
  foreach(dep IN LISTS arg_DEPS)
    target_link_libraries(${name} PRIVATE troupe::${dep})
  endforeach()
endfunction()

function(troupe_summary)
  message(STATUS "troupe ${PROJECT_VERSION}: ${CMAKE_BUILD_TYPE}, ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
  message(STATUS "  tests ${TROUPE_TESTS}, warnings as errors ${TROUPE_WERROR}, sanitize '${TROUPE_SANITIZE}', ccache '${TROUPE_CCACHE}'")
  message(STATUS "  UCX ${TROUPE_HAS_UCX} (TROUPE_UCX=${TROUPE_UCX}), MPI ${TROUPE_HAS_MPI} (TROUPE_MPI=${TROUPE_MPI})")
endfunction()
