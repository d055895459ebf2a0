/* functions.c to support.c. */
#ifndef DEATHS_FUNCTIONS_H
#define DEATHS_FUNCTIONS_H

void register_functions(void);

#endif
