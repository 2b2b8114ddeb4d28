/* Writers that stop for ever, and what the others can still do.

   What it is: set.pml with STOPS writers stopped at any step of theirs, still holding what they
   hold; a put makes at most BUDGET reads of the set word.

   Asserted, beside set.pml: a put that gives up does so because another change was announced
   since it began, never because somebody sleeps. Every writer that is not stopped comes to its end.

   Left out: all slots held by stopped writers (csrc/set_write.hpp then says "no slot").

   Configuration: that of set.pml, P1 and P2 puts of writer 1 and of the others, STOPS (1). BUDGET
   is 8 for two writers; with 5 a put gives up although no other was announced, which shows that the
   assertion bites. The store allows 16 + 4 for every writer (table.hpp).
   Planted faults: WAITS a writer that meets another's change waits for it instead of helping. */
#ifndef P1
#define P1 1
#endif
#ifndef P2
#define P2 1
#endif
#ifndef STOPS
#define STOPS 1
#endif
#ifndef BUDGET
#define BUDGET 8
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
    run killer();
#ifdef CALLS
    run reader(CALLS)
#endif
  }
}
