#!/bin/sh
# gcc: its driver, compiler proper, assembler and linker; with and without errors. What it made is compared too.
i=0
{
    echo '#include <stdio.h>'
    echo '#include <stdlib.h>'
    while [ $i -lt $((300 * ${1:-1})) ]; do
        i=$((i + 1))
        echo "int f$i(int a, int *b) { int unused; for (int i = 0; i < a; i++) b[i % 7] += i * $i; return b[a % 7] / ($i + 1); }"
    done
    echo 'int main(void) { int b[7] = {0}; long s = 0;'
    while [ $i -gt 0 ]; do echo "s += f$i($i, b);"; i=$((i - 1)); done
    echo 'printf("%ld ", s); return 4; }'
} >many.c
gcc -O2 -g -Wall -c many.c -o many.o 2>warnings
echo "exit $?"
cksum warnings many.o
gcc -O2 -flto many.c -o many
echo "exit $?"
./many
echo "exit $?"
# At a fixed address the program holds a malloc of its own, a stub, and dlsym finds that first.
echo '#include <stdlib.h>
void *(*volatile taken)(size_t); int main(void) { taken = malloc; return taken(10) == NULL; }' >fixed.c
gcc -O1 -no-pie -fno-pic fixed.c -o fixed && ./fixed
echo "exit $?"
echo 'int main(void) { return missing + ; }' >bad.c
gcc -c bad.c
echo "exit $?"
