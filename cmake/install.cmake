# make install: the program, the libraries (shared and static), headers, and dml.pc and dml-core.pc
# for pkg-config.
include(GNUInstallDirs)

# 1 more for every release that programs linked with the one before cannot use.
set(DML_SOVERSION 1)
add_library(dml_shared SHARED)
add_library(dml_static STATIC)
add_library(dml_core_shared SHARED)
add_library(dml_core_static STATIC)
dml_contain(dml_shared)
dml_contain(dml_static)
dml_contain_core(dml_core_shared)
dml_contain_core(dml_core_static)
set_target_properties(dml_shared dml_static PROPERTIES OUTPUT_NAME dml)
set_target_properties(dml_core_shared dml_core_static PROPERTIES OUTPUT_NAME dml-core)
set_target_properties(dml_shared dml_core_shared PROPERTIES SOVERSION ${DML_SOVERSION}
                      VERSION ${DML_SOVERSION}.${PROJECT_VERSION})
if(NOT DML_SANITIZE) # internal names that libdml-core lacks would else be missed by its users alone
  target_link_options(dml_core_shared PRIVATE -Wl,--no-undefined)
endif()

# What a program linked with the static library needs as well, as flags: -lsqlite3 for
# /usr/lib/libsqlite3.so, and for targets what they stand for.
function(dml_link_flags out)
  set(flags "")
  foreach(item ${ARGN})
    if(item MATCHES "^\\$<LINK_ONLY:(.*)>$")
      set(item ${CMAKE_MATCH_1})
    endif()
    if(item STREQUAL "OpenMP::OpenMP_C")
      list(APPEND flags ${OpenMP_C_FLAGS})
    elseif(item STREQUAL "Threads::Threads")
      list(APPEND flags -pthread)
    elseif(TARGET ${item})
      get_target_property(behind ${item} INTERFACE_LINK_LIBRARIES)
      if(item MATCHES "^PkgConfig::" AND behind)
        dml_link_flags(behind ${behind})
        list(APPEND flags ${behind})
      else()
        string(REGEX REPLACE ".*::" "" name ${item})
        list(APPEND flags -l${name})
      endif()
    elseif(item MATCHES "^-")
      list(APPEND flags ${item})
    elseif(item MATCHES "lib([^/]+)\\.(so|a)[.0-9]*$")
      list(APPEND flags -l${CMAKE_MATCH_1})
    elseif(NOT item MATCHES "[/$<>]")
      list(APPEND flags -l${item})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES flags)
  set(${out} ${flags} PARENT_SCOPE)
endfunction()

# The folder of dml.pc leads to the prefix, so that an installed tree can be moved.
file(RELATIVE_PATH DML_PC_UP "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" DML_PC_UP "${DML_PC_UP}")
function(dml_pkg_config DML_PC_NAME DML_PC_DESCRIPTION)
  dml_link_flags(DML_LINK_FLAGS ${ARGN})
  string(JOIN " " DML_LINK_FLAGS ${DML_LINK_FLAGS})
  configure_file(${CMAKE_SOURCE_DIR}/cmake/dml.pc.in ${CMAKE_BINARY_DIR}/${DML_PC_NAME}.pc @ONLY)
endfunction()
dml_pkg_config(dml "Deep metric learning: criteria, batch miners, samplers, metrics and training"
               ${DML_LIBRARIES})
dml_pkg_config(dml-core "Deep metric learning: criteria, batch miners, samplers and metrics"
               ${DML_CORE_LIBRARIES})

install(TARGETS dml_program dml_shared dml_static dml_core_shared dml_core_static
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/dml DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")
install(FILES ${CMAKE_SOURCE_DIR}/docs/dml.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_BINARY_DIR}/dml.pc ${CMAKE_BINARY_DIR}/dml-core.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
