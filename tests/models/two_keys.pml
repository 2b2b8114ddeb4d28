/* Writers that put, and remove, two keys in one set, all at once, beside a reader.

   What it is: set.pml and users.pml, with nobody stopped or killed. Two writers that insert the
   same key never leave two tags for it; nothing is lost, or comes back.

   Asserted: what set.pml says. Left out: what set.pml says.

   Configuration: that of set.pml, P1 and P2 puts of writer 1 and of the others (at most 2), CALLS
   of a reader (none). Planted faults: those of set.pml. */
#ifndef P1
#define P1 1
#endif
#ifndef P2
#define P2 1
#endif
#include "set.pml"
#include "users.pml"

init
{
  atomic {
    fill_set();
    run writer(1, P1);
    run writer(2, P2);
#if NW > 2
    run writer(3, P2);
#endif
#ifdef CALLS
    run reader(CALLS)
#endif
  }
}
