# Compiler flags, ccache and the libraries that every module may use.

add_compile_options(-Wall -Wextra -Wpedantic -Wno-unused-parameter -Wno-missing-field-initializers)
add_compile_definitions(BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION
                        BOOST_ASIO_NO_DEPRECATED SPDLOG_COMPILED_LIB SPDLOG_FMT_EXTERNAL
                        MSGPACK_NO_BOOST MSGPACK_USE_CPP17)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # A precompiled header without its own time stamp lets ccache share it.
  add_compile_options(-Xclang -fno-pch-timestamp)
  add_link_options(-fuse-ld=lld)
endif()
if(HIVEMETAL_SANITIZE)
  add_compile_options(-fsanitize=${HIVEMETAL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -O1)
  add_link_options(-fsanitize=${HIVEMETAL_SANITIZE})
  if(HIVEMETAL_FUZZERS)
    add_compile_options(-fsanitize=fuzzer-no-link)
  endif()
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
                                  CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE})
endif()

find_package(Threads REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(Protobuf 3.21 REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(SQLite3 3.40 REQUIRED)
find_package(yaml-cpp 0.7 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 REQUIRED)
find_package(tl-expected REQUIRED)
find_package(GTest REQUIRED)
# Debian's libmsgpack-cxx-dev depends on Boost 1.74, which conflicts with 1.81; scripts/setup unpacks its headers.
find_path(MSGPACK_INCLUDE msgpack.hpp HINTS ${CMAKE_SOURCE_DIR}/.deps/usr/include REQUIRED)
add_library(msgpack INTERFACE)
target_include_directories(msgpack SYSTEM INTERFACE ${MSGPACK_INCLUDE})
if(HIVEMETAL_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()
