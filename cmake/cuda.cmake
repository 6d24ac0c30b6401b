# The GPU backend. Its logic (src/backends/cuda) is part of the library; libdml_cuda.so holds what
# needs NVIDIA's toolkit (src/backends/cuda/device) and is opened at run time, so that one dml works
# with and without a card.
set(DML_CUDA_DEVICE ${CMAKE_SOURCE_DIR}/src/backends/cuda/device)
file(GLOB DML_KERNELS CONFIGURE_DEPENDS ${DML_CUDA_DEVICE}/*.cu)
file(GLOB DML_KERNEL_HEADERS CONFIGURE_DEPENDS ${DML_CUDA_DEVICE}/*.h
     ${CMAKE_SOURCE_DIR}/src/backends/cuda/*.h)

find_program(DML_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
set(DML_CUDA_FOUND OFF)
if(DML_NVCC)
  get_filename_component(DML_CUDA_HOME ${DML_NVCC} REALPATH)
  get_filename_component(DML_CUDA_HOME ${DML_CUDA_HOME}/../.. ABSOLUTE)
  find_path(DML_CUDNN_INCLUDE cudnn.h HINTS ${DML_CUDA_HOME}/include $ENV{CUDNN_HOME}/include)
  # pip's package has the numbered name alone.
  find_library(DML_CUDNN NAMES cudnn libcudnn.so.9
               HINTS ${DML_CUDA_HOME}/lib64 $ENV{CUDNN_HOME}/lib)
  find_library(DML_CUBLAS cublas HINTS ${DML_CUDA_HOME}/lib64)
  find_library(DML_CUDART cudart_static HINTS ${DML_CUDA_HOME}/lib64)
  if(DML_CUDNN_INCLUDE AND DML_CUDNN AND DML_CUBLAS AND DML_CUDART)
    set(DML_CUDA_FOUND ON)
  endif()
endif()
option(DML_CUDA "Build the GPU backend's device layer (CUDA 12 or 13, cuDNN 9)" ${DML_CUDA_FOUND})
if(DML_CUDA AND NOT DML_CUDA_FOUND)
  message(FATAL_ERROR "DML_CUDA: nvcc, cuBLAS or cuDNN is missing; CUDA_HOME and CUDNN_HOME say "
                      "where they are")
elseif(DML_CUDA)
  message(STATUS "GPU backend: CUDA in ${DML_CUDA_HOME}, cuDNN in ${DML_CUDNN}")
else()
  message(STATUS "GPU backend: not built (no CUDA toolkit with cuDNN, or DML_CUDA is off)")
endif()

# From where the program is installed to where libdml_cuda.so is.
file(RELATIVE_PATH DML_LIBRARIES_FROM_PROGRAM "${CMAKE_INSTALL_FULL_BINDIR}"
     "${CMAKE_INSTALL_FULL_LIBDIR}/dml")
set_source_files_properties(src/backends/cuda/open.c PROPERTIES COMPILE_DEFINITIONS
                            DML_LIBRARIES_FROM_PROGRAM="${DML_LIBRARIES_FROM_PROGRAM}")

if(DML_CUDA)
  execute_process(COMMAND ${DML_NVCC} --list-gpu-code OUTPUT_VARIABLE known)
  foreach(architecture 80 86 89 90 100 120)
    if(known MATCHES "sm_${architecture}\n")
      list(APPEND DML_CUDA_DEFAULT ${architecture})
    endif()
  endforeach()
  set(DML_CUDA_ARCHITECTURES "${DML_CUDA_DEFAULT}" CACHE STRING
      "Compute capabilities that kernels are compiled for, ascending; later cards compile the last")
  foreach(architecture ${DML_CUDA_ARCHITECTURES})
    list(APPEND DML_GENCODE -gencode arch=compute_${architecture},code=sm_${architecture})
    set(latest ${architecture})
  endforeach()
  list(APPEND DML_GENCODE -gencode arch=compute_${latest},code=compute_${latest})
  if(DML_WERROR)
    set(DML_NVCC_WERROR -Werror all-warnings)
  endif()
  foreach(source ${DML_KERNELS})
    get_filename_component(name ${source} NAME_WE)
    set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
    add_custom_command(
      OUTPUT ${object}
      COMMAND ${DML_NVCC} -c ${source} -o ${object} -O3 -std=c++17 -I${CMAKE_SOURCE_DIR}/src
              ${DML_NVCC_WERROR} -Xcompiler -fPIC,-Wall,-Wextra,-fvisibility=hidden
              ${DML_GENCODE}
      DEPENDS ${source} ${DML_KERNEL_HEADERS}
      COMMENT "Compiling kernels of ${name}.cu for GPUs"
      VERBATIM)
    list(APPEND DML_KERNEL_OBJECTS ${object})
  endforeach()
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)
  set_source_files_properties(${DML_KERNEL_OBJECTS} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  file(GLOB DML_CUDA_SOURCES CONFIGURE_DEPENDS ${DML_CUDA_DEVICE}/*.c)
  add_library(dml_cuda MODULE ${DML_CUDA_SOURCES} ${DML_KERNEL_OBJECTS})
  target_include_directories(dml_cuda PRIVATE ${DML_CUDA_HOME}/include ${DML_CUDNN_INCLUDE})
  # Nothing of what the rest links.
  set_target_properties(dml_cuda PROPERTIES C_VISIBILITY_PRESET hidden LINK_LIBRARIES
    "${DML_CUDNN};${DML_CUBLAS};${DML_CUDART};Threads::Threads;${CMAKE_DL_LIBS};rt;stdc++")
  install(TARGETS dml_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/dml)
endif()
