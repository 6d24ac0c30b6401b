# make install: the program, the library (shared and static), headers, and dml.pc for pkg-config.
include(GNUInstallDirs)

add_library(dml_shared SHARED)
dml_contain(dml_shared)
# 1 more for every release that programs linked with the one before cannot use.
set(DML_SOVERSION 1)
set_target_properties(dml_shared PROPERTIES OUTPUT_NAME dml SOVERSION ${DML_SOVERSION}
                      VERSION ${DML_SOVERSION}.${PROJECT_VERSION})
add_library(dml_static STATIC)
dml_contain(dml_static)
set_target_properties(dml_static PROPERTIES OUTPUT_NAME dml)

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

dml_link_flags(DML_LINK_FLAGS ${DML_LIBRARIES})
string(JOIN " " DML_LINK_FLAGS ${DML_LINK_FLAGS})
# The folder of dml.pc leads to the prefix, so that an installed tree can be moved.
file(RELATIVE_PATH DML_PC_UP "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" DML_PC_UP "${DML_PC_UP}")
configure_file(${CMAKE_SOURCE_DIR}/cmake/dml.pc.in ${CMAKE_BINARY_DIR}/dml.pc @ONLY)

install(TARGETS dml_program dml_shared dml_static
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/dml DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")
install(FILES ${CMAKE_SOURCE_DIR}/docs/dml.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_BINARY_DIR}/dml.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
