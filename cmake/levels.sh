#!/bin/sh
# Joins a group's objects of every processor level into one, FOLDER/levels.o:
#     levels.sh FOLDER GROUP LEVEL...
# FOLDER/LEVEL.list names the objects of a level. Their global symbols get the suffix __LEVEL and
# are hidden. For each function f of them there is a function f, as visible as f was, that jumps to
# where its pointer in dml_GROUP_entries leads, and for each level the table dml_GROUP_LEVEL of such
# pointers, from which src/base/level.c fills dml_GROUP_entries.
set -eu
cd "$1"
group=$2
shift 2
for level in "$@"; do
    ${LD:-ld} -r -o "$level.joined" "@$level.list"
    ${NM:-nm} --defined-only --extern-only --format=posix "$level.joined" |
        awk -v level="$level" '{ print $1, $1 "__" level }' >"$level.names"
    ${OBJCOPY:-objcopy} --redefine-syms="$level.names" "$level.joined" "$level.o"
done
${NM:-nm} --defined-only --extern-only --format=posix "$1.joined" |
    awk '$2 == "T" { print $1 }' >functions
${OBJDUMP:-objdump} --syms "$1.joined" | sed -n 's/.* \.hidden \(.*\)/\1/p' |
    sort -u | grep -Fxf functions >hidden || true
count=$(wc -l <functions)

label() { # label NAME: a symbol of the library alone
    printf '    .globl %s\n    .hidden %s\n%s:\n' "$1" "$1" "$1"
}
{
    printf '    .text\n'
    awk '{
        printf "    .globl %s\n    .type %s, @function\n%s:\n", $1, $1, $1
        printf "    jmp *dml_%s_entries+%d(%%rip)\n", group, 8 * (NR - 1)
        printf "    .size %s, .-%s\n", $1, $1
    }' group="$group" functions
    sed 's/^/    .hidden /' hidden
    printf '    .bss\n    .balign 8\n'
    label "dml_${group}_entries"
    printf '    .zero %d\n' $((count * 8))
    printf '    .section .rodata\n    .balign 8\n'
    label "dml_${group}_functions"
    printf '    .quad %d\n' "$count"
    printf '    .section .data.rel.ro, "aw"\n    .balign 8\n'
    for level in "$@"; do
        label "dml_${group}_$level"
        sed "s/.*/    .quad &__$level/" functions
        awk '{ print "    .hidden " $2 }' "$level.names"
    done
    # Whoever links a static library gets level.o with it, which nothing else may ask for.
    printf '    .hidden dml_level_name\n    .quad dml_level_name\n'
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
