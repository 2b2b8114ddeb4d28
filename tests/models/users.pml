/* Who uses the set of set.pml: writers, readers, and what stops or kills writers. A scenario may
   define the hooks below before it includes this file. */
#ifndef NOTE         /* the journal, where the scenario has one */
#define NOTE(s)
#define NOTE_NONE
#define LINE
#define FORGET_LINE skip
#define LEASE
#define GIVE_LINE
#define DIES(w) skip
#endif
#ifndef NOTED_LATE
#define NOTED_LATE(s)
#endif

#ifdef ONEKEY
#define CHOOSE_KEY skip
#else
#define CHOOSE_KEY if :: k = 0 :: k = 1 fi
#endif

#ifdef WAITS
#define MEET word != h; h = 0
#else
#define MEET help()
#endif

#if BUDGET
#define COUNTED(out) reads++; if :: reads > BUDGET -> h = 0; goto out :: else -> skip fi
#else
#define COUNTED(out) skip
#endif

/* Exchanges the word h for the one that announces the change of way w by slot s. */
#define ANNOUNCE(again, count)                                                                     \
  atomic {                                                                                         \
    if                                                                                             \
    :: word == h -> h = ANNOUNCED(h, w, s); word = h; mine = h; changes = changes + count          \
    :: else -> h = 0; goto again                                                                   \
    fi                                                                                             \
  }

/* Helps itself until the word no longer shows its change. */
inline finish()
{
  do
  :: SHOWS(h) -> help(); h = word
  :: else -> break
  od;
  atomic { h = 0; mine = 0 }
}

#define NAMES(t, s) (VALID(t) && TSLOT(t) == (s))
#define IS_FREE(s) (!CLAIMED(h, s) && !NAMES(old, s) && !NAMES(new, s))
#define NONE 9

/* With both tags in old and new: the slot to claim, or NONE. */
inline choose_slot()
{
#ifdef ANYSLOT
  if
  :: IS_FREE(0) -> s = 0
  :: IS_FREE(1) -> s = 1
  :: NS > 2 && IS_FREE(2) -> s = 2
  :: NS > 3 && IS_FREE(3) -> s = 3
  :: else -> s = NONE
  fi
#else
  s = (PSLOT(h) + 1) % NS;
  q = 0;
  do
  :: q == NS -> s = NONE; break
  :: q < NS && IS_FREE(s) -> break
  :: q < NS && !IS_FREE(s) -> s = (s + 1) % NS; q++
  od;
  q = 0
#endif
}

/* With both tags in old and new: a way whose removal frees a slot. */
inline choose_removal()
{
  if
  :: VALID(old) && !CLAIMED(h, TSLOT(old)) -> w = 0; s = TSLOT(old)
  :: VALID(new) && !CLAIMED(h, TSLOT(new)) -> w = 1; s = TSLOT(new)
  fi
}

/* Sets w to the way whose tag holds key k and q to its slot, or w to NONE. A tag that does not fit
   its slot holds nothing. */
inline find_way()
{
  old = tag[0];
  new = tag[1];
  if
  :: VALID(old) && FP(old) == FP_OF(k) -> q2 = seq[TSLOT(old)]; match(0, old)
  :: else -> skip
  fi;
  if
  :: w == NONE && VALID(new) && FP(new) == FP_OF(k) -> q2 = seq[TSLOT(new)]; match(1, new)
  :: else -> skip
  fi;
  atomic { old = 0; new = 0; q2 = 0 }
}

inline match(way, t)
{
  if
  :: FITS(t, q2) && !CLAIMED(h, TSLOT(t)) ->
    atomic { if :: key[TSLOT(t)] == k -> w = way; q = TSLOT(t) :: else -> skip fi }
  :: else -> skip
  fi
}

/* The hand has passed the way that was not taken. */
inline move_hand()
{
  old = tag[1 - w];
  if
  :: old & VISITED ->
#ifdef PLAINHAND
    tag[1 - w] = old - VISITED
#else
    atomic { if :: tag[1 - w] == old -> tag[1 - w] = old - VISITED :: else -> skip fi }
#endif
  :: else -> skip
  fi;
  old = 0
}

inline put()
{
  skip;
claim:
  atomic { h = word; w = NONE; COUNTED(give_up) };
  if
  :: PENDING(h) -> MEET; goto claim
  :: else -> skip
  fi;
  old = tag[0];
  atomic {
    new = tag[1];
    choose_slot();
    if
    :: s == NONE -> choose_removal() /* others hold the spare slots: a way has to go */
    :: else -> skip
    fi;
    old = 0;
    new = 0
  };
  if
  :: w != NONE -> ANNOUNCE(claim, 0); finish(); s = 0; goto claim
  :: else -> skip
  fi;
  NOTE(s)
  atomic {
    if
    :: word == h -> assert(owner[s] == 0); owner[s] = id; word = h + VERSION + CLAIM_BIT(s); h = 0
    :: else -> h = 0; s = 0; goto claim
    fi
  };
  NOTED_LATE(s)
  atomic { q = seq[s]; q = (q | 1) + (q & 1) * 2; seq[s] = q }; /* only its claimer writes it */
  key[s] = k;
  row0[s] = v;
  row1[s] = v;
  atomic { seq[s] = q + 1; q = 0 };
publish:
  atomic {
    h = word;
    w = NONE;
    COUNTED(release);
#ifdef GIVEUP
    if :: skip :: changes != before -> h = 0; goto release fi
#endif
  };
  if
  :: PENDING(h) -> MEET; goto publish
  :: else -> skip
  fi;
  find_way();
  atomic { q = 0; passed = (w == NONE); if :: w == NONE -> if :: w = 0 :: w = 1 fi :: else -> skip fi };
  ANNOUNCE(publish, 1);
  finish();
  assert(place[v] > 0);
#ifdef HAND
  if :: passed -> move_hand() :: else -> skip fi;
#endif
  goto put_done;
release:
  atomic { word = word + VERSION - CLAIM_BIT(s); owner[s] = 0 }; /* one addition */
give_up:
  assert(changes != before);
put_done:
  skip
}

#define HOLDS(t) (VALID(t) && FITS(t, seq[TSLOT(t)]) && key[TSLOT(t)] == k)

inline remove()
{
  skip;
search:
  atomic { h = word; w = NONE; COUNTED(remove_given_up) };
  if
  :: PENDING(h) -> MEET; goto search
  :: else -> skip
  fi;
  find_way();
  atomic { s = q; q = 0 };
  if
  :: w == NONE ->
    atomic {
      if
      :: word == h -> assert(!HOLDS(tag[0]) && !HOLDS(tag[1])); h = 0; goto remove_done
      :: else -> h = 0; goto search
      fi
    }
  :: else -> skip
  fi;
  ANNOUNCE(search, 1);
  finish();
  assert(last[k] > since);
  goto remove_done;
remove_given_up:
  assert(changes != before);
remove_done:
  skip
}

#define FORGET                                                                                     \
  h = 0; mine = 0; old = 0; new = 0; s = 0; w = 0; q = 0; q2 = 0; v = 0; reads = 0; before = 0;    \
  since = 0; k = 0; k2 = 0; ok = 0; passed = 0

proctype writer(byte id; byte n)
{
  int h, mine;
  short old, new;
  byte s, w, q, q2, v, reads, before, since;
  bit k, k2, ok, passed;
  LINE
  {
    LEASE
    do
    :: n == 0 -> break
    :: n > 0 ->
      atomic {
        n--;
        v = ROW(id, n);
        before = changes;
        CHOOSE_KEY;
        since = last[k];
        keyOf[v] = k
      };
#ifdef REMOVES
      if
      :: put()
      :: remove()
      fi;
#else
      put();
#endif
      NOTE_NONE
      atomic { FORGET }
    od;
    GIVE_LINE
    atomic { state[id] = FINISHED; FORGET_LINE }
  } unless { atomic { state[id] == DEAD || state[id] == STOPPED -> n = 0; FORGET; FORGET_LINE } }
}

proctype reader(byte calls)
{
  short t;
  byte a, x, y, since, seen;
  bit k, w;
  if :: k = 0 :: k = 1 fi;
  do
  :: calls == 0 -> break
  :: calls > 0 ->
    atomic { calls--; since = last[k]; t = tag[0] };
probe:
    if
    :: VALID(t) && FP(t) == FP_OF(k) -> skip
    :: else -> goto next
    fi;
    a = seq[TSLOT(t)];
#ifdef NOVER
    if :: a & 1 -> goto next :: else -> skip fi;
#else
    if :: !FITS(t, a) -> goto next :: else -> skip fi;
#endif
    if :: key[TSLOT(t)] != k -> goto next :: else -> skip fi;
    x = row0[TSLOT(t)];
    y = row1[TSLOT(t)];
    atomic {
      if
      :: seq[TSLOT(t)] == a ->
        assert(x == y);
        assert(x > 0 && keyOf[x] == k);
        assert(place[x] > 0);
        assert(place[x] >= since);
        assert(place[x] >= seen);
        seen = place[x];
        x = 0;
        y = 0;
        a = 0
      :: else -> goto next
      fi
    };
#ifdef HAND
    if
    :: t & VISITED -> skip
    :: else -> atomic { if :: tag[w] == t -> tag[w] = t | VISITED :: else -> skip fi }
    fi;
#endif
    goto done;
next:
    atomic {
      a = 0; x = 0; y = 0;
      if :: w == 0 -> w = 1; t = tag[1]; goto probe :: else -> skip fi
    };
done:
    atomic { t = 0; since = 0; w = 0 }
  od
}

/* Kills DEATHS writers and stops STOPS for ever, at any step of theirs. */
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef STOPS
#define STOPS 0
#endif
proctype killer()
{
  byte w, deaths = DEATHS, stops = STOPS;
  do
  :: atomic {
       deaths + stops > 0 ->
       select (w : 1 .. NW);
       if
       :: deaths > 0 && state[w] == 0 -> state[w] = DEAD; DIES(w); deaths--
       :: stops > 0 && state[w] == 0 -> state[w] = STOPPED; stops--
       :: else -> skip
       fi;
       w = 0
     }
  :: break
  od
}

#ifdef HAND
#define FIRST_HINTS VISITED
#else
#define FIRST_HINTS 0
#endif

/* Both ways filled, unless EMPTY. */
inline fill_set()
{
#ifndef EMPTY
  seq[0] = 2; row0[0] = 1; row1[0] = 1; key[0] = 0; tag[0] = FIRST_HINTS + TAG(0, 2, 0); keyOf[1] = 0;
  seq[1] = 2; row0[1] = 2; row1[1] = 2; key[1] = 1; tag[1] = FIRST_HINTS + TAG(1, 2, 1); keyOf[2] = 1;
  place[1] = 1; place[2] = 1; last[0] = 1; last[1] = 1;
  word = CHANGE_OF(0, 1) - 1
#else
  skip
#endif
}
