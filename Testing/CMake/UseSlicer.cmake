# The macros that the extension calls, and what Slicer sets before them.
if(PROJECT_NAME MATCHES "^(|Project|Slicer)$")
  message(FATAL_ERROR "Call project(<name of the extension>) before include(\${Slicer_USE_FILE}).")
endif()
foreach(language IN ITEMS C CXX)
  if(NOT CMAKE_${language}_COMPILER_LOADED)
    message(FATAL_ERROR "Slicer checks the ${language} compiler: enable the language.")
  endif()
endforeach()

set(EXTENSION_NAME ${PROJECT_NAME})
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_INSTALL_ROOT}${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
include(CTest)

function(_refuse caller unknown)
  if(unknown)
    message(FATAL_ERROR "Unknown keywords given to ${caller}(): ${unknown}")
  endif()
endfunction()

# Copies SCRIPTS and RESOURCES, with their folders, to the build tree's module folder (WITH_SUBDIR: to the folder in it
# that has the source folder's name) and installs that folder with everything in it.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(PARSE_ARGV 0 arg "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES")
  _refuse(slicerMacroBuildScriptedModule "${arg_UNPARSED_ARGUMENTS}")
  if(NOT arg_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: NAME is mandatory")
  endif()
  set(built "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  set(installed "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}")
  if(arg_WITH_SUBDIR)
    get_filename_component(subdir "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    string(APPEND built "/${subdir}")
    string(APPEND installed "/${subdir}")
  endif()
  foreach(file IN LISTS arg_SCRIPTS arg_RESOURCES)
    set(source "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
    if(NOT EXISTS "${source}" OR IS_DIRECTORY "${source}")
      message(FATAL_ERROR "slicerMacroBuildScriptedModule given nonexistent file '${file}'")
    endif()
    add_custom_command(OUTPUT "${built}/${file}" DEPENDS "${source}"
      COMMAND ${CMAKE_COMMAND} -E copy "${source}" "${built}/${file}")
    list(APPEND copies "${built}/${file}")
  endforeach()
  add_custom_target(Copy${arg_NAME} ALL DEPENDS ${copies})
  install(DIRECTORY "${built}/" DESTINATION "${installed}" COMPONENT RuntimeLibraries USE_SOURCE_PERMISSIONS)
endfunction()

# A test that starts Slicer and runs the unittest cases found in a file. (Slicer finds mistakes here only when it runs.)
function(slicer_add_python_unittest)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS")
  _refuse(slicer_add_python_unittest "${arg_UNPARSED_ARGUMENTS}")
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${arg_SCRIPT}")
    message(FATAL_ERROR "slicer_add_python_unittest given nonexistent file '${arg_SCRIPT}'")
  endif()
  get_filename_component(name "${arg_SCRIPT}" NAME_WE)
  string(CONCAT code "import slicer.testing; slicer.testing.runUnitTest("
    "['${CMAKE_CURRENT_BINARY_DIR}', '${CMAKE_CURRENT_SOURCE_DIR}'], '${name}')")
  add_test(NAME py_${arg_TESTNAME_PREFIX}${name} COMMAND ${Slicer_LAUNCHER_EXECUTABLE}
    --no-splash --testing ${arg_SLICER_ARGS}
    --additional-module-paths "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}"
    --python-code "${code}")
endfunction()
