# SPDX-License-Identifier: Apache-2.0
"""Which external cell runs which trial: no trial in two hands, none lost, whatever cells and the stage do."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chef_learning.experiment.handout import Handout

SILENT_S = 10.0
CELLS = st.sampled_from(['a', 'b', 'c'])


class Lab(RuleBasedStateMachine):
    """Cells that know of their hands what they last saw, die, and come back; a stage that is killed and goes on."""

    @initialize(count=st.integers(0, 7))
    def begin(self, count):
        self.count, self.done, self.now = count, set(), 0.0
        self.signs, self.seen, self.told = {}, {}, {}
        self.last_sign, self.ran = {}, []
        self.open({})

    def open(self, hands):
        self.now = 0.0
        self.handout = Handout([n for n in range(self.count) if n not in self.done], SILENT_S, hands)
        self.handout.hear(dict(self.signs), 0.0)
        self.last_sign = dict.fromkeys(hands, 0.0)
        self.tell()

    def tell(self):
        before, self.told = self.told, self.handout.hands(self.now)
        for cell, hand in before.items():       # nothing is taken from one that lives
            if self.now - self.last_sign.get(cell, float('-inf')) <= SILENT_S:
                assert set(hand) - self.done <= set(self.told[cell])

    @rule(cell=CELLS)
    def sign(self, cell):
        self.signs[cell] = self.signs.get(cell, 0) + 1

    @rule(dt=st.floats(0.1, 8.0))
    def look(self, dt):
        self.now += dt
        heard = {c for c, s in self.signs.items() if self.handout._signs.get(c) != s}
        self.handout.hear(dict(self.signs), self.now)
        self.last_sign.update(dict.fromkeys(heard, self.now))
        self.tell()

    @rule(cell=CELLS)
    def fetch(self, cell):
        self.seen[cell] = self.told.get(cell, ())

    @rule(cell=CELLS)
    def run(self, cell):
        """The next of what it knows of; one that was cut off may know of what is another's by now."""
        left = [n for n in self.seen.get(cell, ()) if (cell, n) not in self.ran]
        if left:
            self.ran.append((cell, left[0]))

    @precondition(lambda self: self.ran)
    @rule(data=st.data())
    def arrive(self, data):
        number = data.draw(st.sampled_from(self.ran))[1]
        self.done.add(number)
        self.handout.done(number)

    @rule()
    def stage_is_killed(self):
        self.open(self.told)

    @invariant()
    def every_trial_is_in_one_hand_at_most(self):
        held = [n for hand in self.told.values() for n in hand if n not in self.done]
        assert len(held) == len(set(held)) and all(len(hand) <= 2 for hand in self.told.values())

    def teardown(self):
        """Whatever happened, one cell that lives on runs all that is left, in order."""
        if not hasattr(self, 'count'):
            return
        order = []
        for _ in range(3 + self.count):
            self.sign('z')
            self.look(SILENT_S / 2)
        while self.told.get('z'):
            number = self.told['z'][0]
            order.append(number)
            self.done.add(number)
            self.handout.done(number)
            self.sign('z')
            self.look(1.0)
        assert self.done == set(range(self.count)) and len(order) == len(set(order))


Lab.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_lab = Lab.TestCase


def test_trials_are_dealt_in_order_one_each_in_turn_and_a_stale_sign_is_no_life():
    handout = Handout(range(6), 10.0)
    handout.hear({'a': 1, 'b': 1, 'dead': 7}, 0.0)
    assert handout.hands(0.0) == {}
    handout.hear({'a': 2, 'b': 2, 'dead': 7, 'new': 1}, 1.0)
    assert handout.hands(1.0) == {'a': (0, 3), 'b': (1, 4), 'new': (2, 5)}
    handout.done(0)
    handout.hear({'a': 2, 'b': 3, 'dead': 7, 'new': 1}, 11.0)
    assert handout.hands(11.5) == {'b': (1, 4)}
    handout.done(4)
    assert handout.hands(12.0) == {'b': (1, 2)}
