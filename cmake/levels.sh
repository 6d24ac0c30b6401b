#!/bin/sh
# Joins the objects of every processor level into one, FOLDER/levels.o:
#     levels.sh FOLDER LEVEL...
# FOLDER/LEVEL.list names the objects of a level. Their global symbols get the suffix __LEVEL. For
# each function f of them there is a function f that jumps to where its pointer in
# dml_level_entries leads, and for each level the table dml_level_LEVEL of such pointers, from which
# src/base/level.c fills dml_level_entries.
set -eu
cd "$1"
shift
for level in "$@"; do
    ${LD:-ld} -r -o "$level.joined" "@$level.list"
    ${NM:-nm} --defined-only --extern-only --format=posix "$level.joined" |
        awk -v level="$level" '{ print $1, $1 "__" level }' >"$level.names"
    ${OBJCOPY:-objcopy} --redefine-syms="$level.names" "$level.joined" "$level.o"
done
${NM:-nm} --defined-only --extern-only --format=posix "$1.joined" |
    awk '$2 == "T" { print $1 }' >functions
count=$(wc -l <functions)

label() { # label NAME: a symbol of the library alone
    printf '    .globl %s\n    .hidden %s\n%s:\n' "$1" "$1" "$1"
}
{
    printf '    .text\n'
    awk '{
        printf "    .globl %s\n    .type %s, @function\n%s:\n", $1, $1, $1
        printf "    jmp *dml_level_entries+%d(%%rip)\n    .size %s, .-%s\n", 8 * (NR - 1), $1, $1
    }' functions
    printf '    .bss\n    .balign 8\n'
    label dml_level_entries
    printf '    .zero %d\n' $((count * 8))
    printf '    .section .rodata\n    .balign 8\n'
    label dml_level_functions
    printf '    .quad %d\n' "$count"
    printf '    .section .data.rel.ro, "aw"\n    .balign 8\n'
    for level in "$@"; do
        label "dml_level_$level"
        sed "s/.*/    .quad &__$level/" functions
    done
    printf '    .section .note.GNU-stack, "", @progbits\n'
} >entries.s
${CC:-cc} -c entries.s -o entries.o
objects=entries.o
for level in "$@"; do
    objects="$objects $level.o"
done
# shellcheck disable=SC2086 # a list
${LD:-ld} -r -o levels.o $objects
rm -f entries.o ./*.joined
