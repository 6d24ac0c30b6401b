# Parsers of files from elsewhere under libFuzzer and the sanitizers; tests/test_fuzz.sh builds and
# runs them.
set(DML_FUZZED base/crc.c base/error.c base/files.c base/memory.c base/npy.c base/stream.c
    base/text.c base/utf8.c nn/weights/tensors.c nn/weights/safetensors.c nn/weights/pickle.c nn/weights/pickle_globals.c
    nn/weights/state_dict.c nn/weights/unwrap.c nn/weights/torch_state.c nn/weights/torch_read.c
    nn/weights/torch_write.c)
list(TRANSFORM DML_FUZZED PREPEND ${CMAKE_SOURCE_DIR}/src/)
foreach(name torch safetensors npy)
  add_executable(fuzz_${name} tests/fuzz/fuzz_${name}.c ${DML_FUZZED})
  target_include_directories(fuzz_${name} PRIVATE include src tests)
  target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer,address,undefined
                         -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer,address,undefined)
  target_link_libraries(fuzz_${name} PRIVATE PkgConfig::CJSON PkgConfig::ZIP PkgConfig::ZLIB m)
endforeach()
