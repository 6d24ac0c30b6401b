# libdml_mpi.so: what carries bytes between the processes of a run. The program opens it when mpirun
# or srun started it, so that nothing else needs MPI.
if(DML_MPI)
  find_package(MPI QUIET COMPONENTS C)
endif()
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/comm/open.c PROPERTIES
                            COMPILE_DEFINITIONS DML_LIBRARY_PATH="${CMAKE_INSTALL_LIBDIR}")
if(MPI_C_FOUND)
  file(GLOB DML_MPI_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/comm/mpi/*.c)
  add_library(dml_mpi MODULE ${DML_MPI_SOURCES})
  set_target_properties(dml_mpi PROPERTIES LINK_LIBRARIES "" C_VISIBILITY_PRESET hidden)
  target_link_libraries(dml_mpi PRIVATE MPI::MPI_C)
  add_dependencies(dml_program dml_mpi)
  install(TARGETS dml_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/dml)
else()
  message(STATUS "Many processes (dml train --ranks) are left out: MPI was not found")
endif()
