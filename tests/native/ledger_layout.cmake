# Writes ledger_layout.inc: STRUCT, FIELD and CONSTANT lines for all that nlt_ledger.h declares. ledger_layout.c lets the
# compiler say where each lies; what is overlooked here leaves a hole between two fields, which LedgerLayoutTests notice.

set(ledger_header ${PROJECT_SOURCE_DIR}/src/NativeShim/include/nlt_ledger.h)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${ledger_header})

file(READ ${ledger_header} text)
string(REGEX REPLACE "/\\*[^*]*\\*+([^/*][^*]*\\*+)*/" "" text "${text}")
string(REPLACE ";" "@" text "${text}") # to CMake, a semicolon is the border between two items of a list

string(REGEX MATCHALL "NLT_[A-Z0-9_]+" constants "${text}")
list(REMOVE_DUPLICATES constants)
list(REMOVE_ITEM constants NLT_LEDGER_H)

set(structs "")
set(inside FALSE)
string(REPLACE "\n" ";" lines "${text}")
foreach(line IN LISTS lines)
    if(line MATCHES "^struct ([a-z_0-9]+) {")
        string(APPEND structs "STRUCT(${CMAKE_MATCH_1})\n")
        set(inside TRUE)
    elseif(line MATCHES "^}" AND inside)
        string(APPEND structs "END\n")
        set(inside FALSE)
    elseif(inside AND line MATCHES "([a-z_0-9]+)(\\[[^]]*\\])?@ *$")
        string(APPEND structs "FIELD(${CMAKE_MATCH_1})\n")
    endif()
endforeach()

list(TRANSFORM constants REPLACE "(.+)" "CONSTANT(\\1)\n")
list(JOIN constants "" constants)
set(generated ${CMAKE_CURRENT_BINARY_DIR}/ledger_layout.inc)
file(WRITE ${generated}.new "${structs}${constants}")
file(COPY_FILE ${generated}.new ${generated} ONLY_IF_DIFFERENT)
