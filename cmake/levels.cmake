# One binary for every x86-64: what computes is compiled once for each level of the processor
# (x86-64-v2, -v3 and -v4), and src/base/level.c chooses between them when the program starts.
#
# A folder or file of this list may define functions for the rest of the library, and data only for
# itself. A header that the rest includes, too, must mean the same at every level.
set(DML_LEVELLED criteria math miners optimisers metrics/prepare.c backends/cpu/fold.c
    backends/cpu/kernels_bfloat16.c backends/cpu/kernels_float32.c backends/cpu/narrow.c
    backends/cpu/normalize.c backends/cpu/operations backends/cpu/pairs_emulated.c
    backends/cpu/params.c backends/cpu/run.c backends/cpu/per_tap_gemm.c base/batch.c base/registry.c data/color.c data/resize_kernels.c
    data/transform.c plan/fold.c)

set(DML_LEVELS_DEFAULT "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND NOT DML_SANITIZE)
  set(DML_LEVELS_DEFAULT v2 v3 v4)
endif()
set(DML_LEVELS "${DML_LEVELS_DEFAULT}" CACHE STRING
    "Levels of x86-64 to compile kernels for, ascending; empty: once, for the compiler's default")

# An instruction that no level has; who calls what is in this file asks the processor first.
include(CheckCCompilerFlag)
check_c_compiler_flag(-mavx512bf16 DML_HAS_AVX512BF16)
if(DML_HAS_AVX512BF16)
  set_source_files_properties(src/backends/cpu/pairs_native.c PROPERTIES
                              COMPILE_OPTIONS "-march=x86-64-v4;-mavx512bf16")
endif()

# Moves the levelled files out of the list of sources `sources` and compiles them apart, into the
# one object file whose path becomes `object` (empty where nothing is levelled). What links it
# depends on the target dml_levels_GROUP.
function(dml_levels group sources object)
  set(${object} "" PARENT_SCOPE)
  add_custom_target(dml_levels_${group})
  if(NOT DML_LEVELS)
    return()
  endif()
  foreach(entry ${DML_LEVELLED})
    set(chosen ${${sources}})
    list(FILTER chosen INCLUDE REGEX "^${CMAKE_SOURCE_DIR}/src/${entry}(/|$)")
    list(APPEND levelled ${chosen})
  endforeach()
  list(REMOVE_ITEM ${sources} ${levelled})
  set(${sources} ${${sources}} PARENT_SCOPE)
  set(folder ${CMAKE_BINARY_DIR}/levels/${group})
  foreach(level ${DML_LEVELS})
    add_library(dml_level_${group}_${level} OBJECT ${levelled})
    target_compile_options(dml_level_${group}_${level} PRIVATE -march=x86-64-${level})
    target_link_libraries(dml_level_${group}_${level} ${DML_LIBRARIES})
    file(GENERATE OUTPUT ${folder}/${level}.list
         CONTENT "$<JOIN:$<TARGET_OBJECTS:dml_level_${group}_${level}>,\n>\n")
    list(APPEND compiled $<TARGET_OBJECTS:dml_level_${group}_${level}> ${folder}/${level}.list)
    list(APPEND targets dml_level_${group}_${level})
  endforeach()
  add_custom_command(
    OUTPUT ${folder}/levels.o
    COMMAND ${CMAKE_COMMAND} -E env CC=${CMAKE_C_COMPILER} LD=${CMAKE_LINKER} NM=${CMAKE_NM}
            OBJCOPY=${CMAKE_OBJCOPY} OBJDUMP=${CMAKE_OBJDUMP}
            sh ${CMAKE_SOURCE_DIR}/cmake/levels.sh ${folder} ${group} ${DML_LEVELS}
    DEPENDS ${compiled} ${CMAKE_SOURCE_DIR}/cmake/levels.sh
    COMMENT "Joining the kernels of every processor level")
  add_custom_target(dml_levels_${group}_joined DEPENDS ${folder}/levels.o)
  add_dependencies(dml_levels_${group}_joined ${targets})
  add_dependencies(dml_levels_${group} dml_levels_${group}_joined)
  set_source_files_properties(${folder}/levels.o PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  set(${object} ${folder}/levels.o PARENT_SCOPE)
endfunction()
