# A stand-in for the CMake package of 3D Slicer: what an extension of scripted modules uses of it, so that the extension
# is configured, built and packaged where there is no Slicer. It knows no compiler flags, dependencies or translations
# of Slicer's, and refuses what the real one refuses: unknown keywords and files that do not exist.
set(Slicer_VERSION 5.12)
set(Slicer_REVISION 0)
set(Slicer_OS ${CMAKE_SYSTEM_NAME})
set(Slicer_ARCHITECTURE ${CMAKE_SYSTEM_PROCESSOR})
set(Slicer_USE_PYTHONQT ON)
set(Slicer_LAUNCHER_EXECUTABLE Slicer CACHE STRING "Program that runs the tests of the modules")

set(Slicer_INSTALL_ROOT "./")
set(Slicer_SHARE_DIR "share/Slicer-${Slicer_VERSION}")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-${Slicer_VERSION}/qt-scripted-modules")

set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/GenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Package.cmake")
