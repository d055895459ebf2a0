/* A program that does nothing, linked with what a worker is linked with: the measure of bench/start. */
#include "disco/disco.h"

int main(void) { return disco_version()[0] == 0; }
