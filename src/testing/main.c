/*
 * testing/main.c -- main() of every unit test program, and of fuzz targets built without libFuzzer.
 *
 * It is a file of its own so that libFuzzer's main() can take its place: the linker takes this one
 * out of the library only when nothing else defines main().
 */
#include "testing/replay.h"
#include "testing/testing.h"

int main(int argc, char **argv)
{
    return testing_replay_wanted() ? testing_replay(argc, argv) : testing_main(argc, argv);
}
