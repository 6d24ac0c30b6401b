# Tests of the GPU backend that need no card.

# A test that says why it cannot be run here.
function(dml_leave_out name reason)
  add_test(NAME ${name} COMMAND sh -c "echo 'left out: ${reason}'; exit 77")
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()

# The kernels once more, by a C++ compiler, on a card in plain C (tests/cuda_host).
include(CheckLanguage)
check_language(CXX)
if(CMAKE_CXX_COMPILER)
  enable_language(CXX)
  set_source_files_properties(${DML_KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++"
                              OBJECT_DEPENDS "${DML_KERNEL_HEADERS}")
  add_library(dml_cuda_host STATIC EXCLUDE_FROM_ALL ${DML_KERNELS}
              ${CMAKE_SOURCE_DIR}/tests/cuda_shim/shim.cpp
              ${CMAKE_SOURCE_DIR}/tests/cuda_host/device_host.c
              ${CMAKE_SOURCE_DIR}/tests/cuda_host/uploads.c ${DML_CUDA_DEVICE}/usable.c
              ${DML_CUDA_DEVICE}/nccl.c)
  set_target_properties(dml_cuda_host PROPERTIES CXX_STANDARD 17 CXX_EXTENSIONS ON)
  target_include_directories(dml_cuda_host PUBLIC ${CMAKE_SOURCE_DIR}/tests)
endif()

# test_cuda_NAME from these files.
function(dml_cuda_test name)
  if(NOT TARGET dml_cuda_host)
    dml_leave_out(test_cuda_${name} "there is no C++ compiler")
    return()
  endif()
  add_executable(test_cuda_${name} ${ARGN})
  target_link_libraries(test_cuda_${name} PRIVATE dml_cuda_host dml_test_support)
  set_target_properties(test_cuda_${name} PROPERTIES LINKER_LANGUAGE CXX)
  dml_test(test_cuda_${name} 1200 test_cuda_${name})
  # That card works on one thread; others would only wait.
  set_property(TEST test_cuda_${name} APPEND PROPERTY ENVIRONMENT OMP_NUM_THREADS=1)
endfunction()

foreach(name kernels ranks device uploads classes)
  dml_cuda_test(${name} tests/cuda_host/test_${name}.c)
endforeach()
# Cards of several processes, which a library in NCCL's place joins.
if(MPI_C_FOUND AND TARGET dml_cuda_host)
  add_library(nccl_double MODULE tests/cuda_host/nccl.c)
  target_compile_options(nccl_double PRIVATE -fvisibility=default)
  dml_cuda_test(sharing tests/cuda_host/test_sharing.c)
  add_dependencies(test_cuda_sharing nccl_double)
  # What Open MPI leaves behind is not ours.
  set_property(TEST test_cuda_sharing APPEND PROPERTY ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
else()
  dml_leave_out(test_cuda_sharing "there is no MPI or no C++ compiler")
endif()
# Tests of networks, and of criteria with class weights, once more, on this backend.
foreach(name backend backbones bf16 grouped transformer_operations golden_architectures
        golden_architectures2 golden_vit golden_trajectory golden_trajectory2 golden_criteria)
  dml_cuda_test(${name} tests/test_${name}.c tests/cuda_host/use.c)
endforeach()

# The program on the card in plain C, and all that can be wrong with a card.
if(TARGET dml_cuda_host)
  add_executable(dml_on_host_card ${DML_CLI_SOURCES}
                 ${CMAKE_SOURCE_DIR}/tests/cuda_host/program.c)
  target_link_libraries(dml_on_host_card PRIVATE dml_cuda_host dml_testing)
  set_target_properties(dml_on_host_card PROPERTIES LINKER_LANGUAGE CXX ENABLE_EXPORTS ON)
  dml_test_script(test_cuda_program ${CMAKE_SOURCE_DIR}/tests/cuda_host/test_program.sh
                  $<TARGET_FILE:dml_on_host_card>)
  if(DML_BENCH) # defined after the tests
    add_executable(bench_on_host_card ${CMAKE_SOURCE_DIR}/bench/bench_gpu.c
                   ${CMAKE_SOURCE_DIR}/tests/cuda_host/program.c)
    target_link_libraries(bench_on_host_card PRIVATE dml_cuda_host dml_bench_support)
    set_target_properties(bench_on_host_card PROPERTIES LINKER_LANGUAGE CXX)
    # That it runs; its figures say nothing here.
    dml_test(test_cuda_bench 600 bench_on_host_card 2 32 64 resnet18_frozen_normalize)
    set_property(TEST test_cuda_bench APPEND PROPERTY ENVIRONMENT BENCH_ONCE=1)
  endif()
else()
  dml_leave_out(test_cuda_program "there is no C++ compiler")
endif()

# What runs on a real card, with programs that only pretend.
dml_test_script(test_cuda_script ${CMAKE_SOURCE_DIR}/tests/cuda_host/test_gpu_script.sh)

# cuDNN's own planner, which needs no card either.
if(DML_CUDA)
  dml_cuda_test(plans tests/cuda_host/test_plans.c
                ${CMAKE_SOURCE_DIR}/src/backends/cuda/device/cudnn_graph.c)
  if(TARGET test_cuda_plans)
    target_include_directories(test_cuda_plans PRIVATE ${DML_CUDA_HOME}/include
                               ${DML_CUDNN_INCLUDE})
    target_link_libraries(test_cuda_plans PRIVATE ${DML_CUDNN} ${DML_CUDART} rt)
    # What cuDNN and cuBLAS leave behind is not ours.
    set_property(TEST test_cuda_plans APPEND PROPERTY ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
  endif()
else()
  dml_leave_out(test_cuda_plans "there is no CUDA toolkit with cuDNN")
endif()
