# Writes INPUT as a C++ raw string literal to OUTPUT:
#   cmake -DINPUT=table.csv -DOUTPUT=table.inc -P embed_text.cmake
file(READ "${INPUT}" text)
if(text MATCHES "\\)embedded\"")
  message(FATAL_ERROR "${INPUT} holds the end mark of the literal")
endif()
file(WRITE "${OUTPUT}" "R\"embedded(${text})embedded\"\n")
