# Parsers of files from elsewhere under libFuzzer and the sanitizers; tests/test_fuzz.sh builds and
# runs them. tests/fuzz/fuzz_NAME.c is one target.
pkg_check_modules(JPEG REQUIRED IMPORTED_TARGET libjpeg)
pkg_check_modules(PNG REQUIRED IMPORTED_TARGET libpng)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3)
find_package(Threads REQUIRED)
set(DML_FUZZED base/crc.c base/error.c base/files.c base/json.c base/lock.c base/memory.c
    base/messages.c base/npy.c base/number.c base/progress.c base/rng.c base/stream.c base/suggest.c
    base/text.c base/utf8.c
    data/csv.c data/image.c data/jpeg.c data/layout.c data/layouts/lists.c
    data/layouts/mat_file.c data/png.c nn/weights/tensors.c nn/weights/safetensors.c
    nn/weights/pickle.c nn/weights/pickle_globals.c nn/weights/state_dict.c nn/weights/unwrap.c
    nn/weights/torch_state.c nn/weights/torch_read.c nn/weights/torch_write.c params/help.c
    params/json.c params/params.c params/parse.c params/value.c report/labels.c report/options.c
    report/read.c report/statistics.c report/table.c sweep/read.c tracking/append.c tracking/best.c
    tracking/csv.c tracking/database.c tracking/names.c tracking/protobuf.c tracking/summary.c
    tracking/tensorboard.c tracking/wandb.c tracking/wandb_log.c)
list(TRANSFORM DML_FUZZED PREPEND ${CMAKE_SOURCE_DIR}/src/)
include_directories(include src tests)
add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
                    -fno-omit-frame-pointer)
link_libraries(PkgConfig::CJSON PkgConfig::JPEG PkgConfig::PNG PkgConfig::SQLITE PkgConfig::ZIP
               PkgConfig::ZLIB Threads::Threads m)
add_library(fuzzed STATIC ${DML_FUZZED})
file(GLOB DML_FUZZ_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
foreach(source ${DML_FUZZ_SOURCES})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE fuzzed)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer,address,undefined)
endforeach()
