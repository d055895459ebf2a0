/* Debian's libjansson.a is compiled for programs: position independent, but for the address of one variable of another
 * library, stdin, which json_loadf() compares its stream with to name it in errors. libdisco never calls that function,
 * so the linker (--wrap=stdin) gives jansson this variable instead, which lies in the same library. */
#include <stdio.h>

extern FILE *__wrap_stdin;
FILE *__wrap_stdin = NULL;
