# The tests. Labels: `golden` those that read golden vectors, `script` those that run the program.
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
add_library(dml_testing STATIC)
dml_contain(dml_testing)
target_link_libraries(dml_testing PUBLIC PkgConfig::CMOCKA)
file(GLOB DML_TEST_SUPPORT CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/support/*.c)
list(FILTER DML_TEST_SUPPORT EXCLUDE REGEX "/program.c$")
add_library(dml_test_support STATIC ${DML_TEST_SUPPORT})
target_include_directories(dml_test_support PUBLIC ${CMAKE_SOURCE_DIR}/tests)
# gcc 12 for AArch64 breaks off while it vectorises some loops of tests.
target_compile_options(dml_test_support PUBLIC
  "$<$<CONFIG:Release>:-O2;-fno-tree-vectorize>")
target_compile_definitions(dml_test_support PUBLIC
  DML_SOURCE_DIR="${CMAKE_SOURCE_DIR}" DML_BINARY_DIR="${CMAKE_BINARY_DIR}")
target_link_libraries(dml_test_support PUBLIC dml_testing)
# In every test program, although nothing calls it.
target_sources(dml_test_support INTERFACE ${CMAKE_SOURCE_DIR}/tests/support/program.c)

function(dml_test name timeout command)
  add_test(NAME ${name} COMMAND ${command} ${ARGN})
  # Threads that wait let others work, as the program sets it for itself: tests share the cores.
  set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} ENVIRONMENT GOMP_SPINCOUNT=5000)
endfunction()

function(dml_test_script name script)
  dml_test(${name} 3600 bash ${script} $<TARGET_FILE:dml_program> ${CMAKE_SOURCE_DIR} ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS script)
endfunction()

# tests/test_NAME.c is one program; tests/test_golden_NAME.c carries the label `golden`;
# tests/test_NAME.sh is run with the program's path.
file(GLOB DML_TEST_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/test_*.c)
foreach(source ${DML_TEST_SOURCES})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE dml_test_support)
  dml_test(${name} 600 ${name})
  if(name MATCHES "^test_golden_")
    set_tests_properties(${name} PROPERTIES LABELS golden)
  endif()
endforeach()
# What Open MPI leaves behind is not ours.
set_property(TEST test_comm APPEND PROPERTY ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
# Holds and exports all of the library, as the program does, for the plugins that it loads.
dml_contain(test_plugin)
set_target_properties(test_plugin PROPERTIES ENABLE_EXPORTS ON)
file(GLOB DML_TEST_SCRIPTS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/test_*.sh)
foreach(script ${DML_TEST_SCRIPTS})
  get_filename_component(name ${script} NAME_WE)
  dml_test_script(${name} ${script})
endforeach()

# Ranks on two hosts, and the link between them.
add_executable(hosts_link ${CMAKE_SOURCE_DIR}/tests/hosts/link.c)
dml_test_script(test_ranks_hosts ${CMAKE_SOURCE_DIR}/tests/hosts/ranks.sh $<TARGET_FILE:hosts_link>)
# Alone, because of ranks that are lost when they are silent for a few seconds.
set_tests_properties(test_ranks_hosts PROPERTIES SKIP_RETURN_CODE 77 RUN_SERIAL ON)
if(MPI_C_FOUND)
  add_library(hosts_strike MODULE ${CMAKE_SOURCE_DIR}/tests/hosts/strike.c)
  target_compile_options(hosts_strike PRIVATE -fvisibility=default)
  target_link_libraries(hosts_strike PRIVATE MPI::MPI_C ${CMAKE_DL_LIBS})
endif()

include(cmake/cuda_tests.cmake)

# What runs survive: scripts that kill and starve the program, and what they need for it.
set(DML_RELIABILITY ${CMAKE_SOURCE_DIR}/tests/reliability)
add_executable(reliability_run_text ${DML_RELIABILITY}/run_text.c ${DML_RELIABILITY}/records.c)
target_link_libraries(reliability_run_text PRIVATE dml_testing)
dml_test_script(reliability_kills ${DML_RELIABILITY}/kills.sh $<TARGET_FILE:reliability_run_text>)
dml_test_script(reliability_resuming ${DML_RELIABILITY}/resuming.sh)
# A malloc of its own and limits of address space are in the way of AddressSanitizer.
if(NOT DML_SANITIZE)
  add_library(reliability_faults MODULE ${DML_RELIABILITY}/faults.c)
  target_link_libraries(reliability_faults PRIVATE ${CMAKE_DL_LIBS})
  target_compile_options(reliability_faults PRIVATE -fvisibility=default) # what it stands before
  dml_test_script(reliability_faults ${DML_RELIABILITY}/faults.sh
                  $<TARGET_FILE:reliability_run_text> $<TARGET_FILE:reliability_faults>)
  dml_test_script(reliability_failures ${DML_RELIABILITY}/failures.sh
                  $<TARGET_FILE:reliability_faults>)
  dml_test_script(reliability_limits ${DML_RELIABILITY}/limits.sh
                  $<TARGET_FILE:reliability_run_text>)
endif()

# examples/NAME.c shows the library at work: built like a user's program, and run as a test.
file(GLOB DML_EXAMPLES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/examples/*.c)
foreach(source ${DML_EXAMPLES})
  get_filename_component(name ${source} NAME_WE)
  add_executable(example_${name} ${source})
  target_link_libraries(example_${name} PRIVATE dml_testing)
  dml_test(example_${name} 600 example_${name} ${CMAKE_SOURCE_DIR}/data
           ${CMAKE_BINARY_DIR}/example_${name}_results)
endforeach()
