/* The functions faults.* that run on workers; support.h says what each does. */
#ifndef FAULTS_FUNCTIONS_H
#define FAULTS_FUNCTIONS_H

void faults_register_functions(void);

#endif
