"""What a program has made that must outlive a switch, and where."""

from __future__ import annotations

import functools
from collections import namedtuple

import torch
from torch import nn

import mutandis as mu
from mutandis.flows.supernet.around.held import exchange, has_state, held_in

Pair = namedtuple("Pair", ["a", "b"])


def optimizer():
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Counter(Plain):
    def state_dict(self):
        return dict(self.__dict__)

    def load_state_dict(self, state):
        self.__dict__.update(state)


@mu.symbolize
class Program:
    def __init__(self, given=None):
        self.given = given


def program(**attributes):
    made = Program()
    made.__dict__.update(attributes)
    return made


def places(found):
    return {held.at: held.value for held in found}


def test_attributes_elements_and_what_functions_enclose_are_looked_at():
    made = [optimizer() for _ in range(8)]
    inside = made[3]
    value = program(
        direct=made[0], listed=[1, [made[1]]], named={"x": made[2]}, enclosed=lambda: inside,
        pair=Pair(1, made[4]), bound=made[5].step, partly=functools.partial(print, made[6], end=made[7]),
    )  # fmt: skip
    found = held_in({"p": [value]}, ())
    start = "['p'][0]."
    assert places(found) == {
        f"{start}direct": made[0], f"{start}listed[1][0]": made[1], f"{start}named['x']": made[2],
        f"{start}enclosed.inside": made[3], f"{start}pair[1]": made[4], f"{start}bound": made[5],
        f"{start}partly[0]": made[6], f"{start}partly.end": made[7],
    }  # fmt: skip
    others = {held.at: optimizer() for held in found}
    for held in found:
        held.put(others[held.at])
    assert value.direct is others[f"{start}direct"] and value.listed == [1, [others[f"{start}listed[1][0]"]]]
    assert value.named == {"x": others[f"{start}named['x']"]} and value.enclosed() is others[f"{start}enclosed.inside"]
    assert value.pair == Pair(1, others[f"{start}pair[1]"]) and value.bound.__self__ is others[f"{start}bound"]
    assert value.partly.args == (others[f"{start}partly[0]"],)
    assert value.partly.keywords == {"end": others[f"{start}partly.end"]}


def test_one_object_at_several_places_is_one_and_is_put_everywhere():
    made = optimizer()
    value = program(first=made, again=[made], once_more=(0, made))
    (held,) = held_in(value, ())
    other = optimizer()
    held.put(other)
    assert held.at == "first" and value.first is value.again[0] is value.once_more[1] is other


def test_an_optimizer_that_only_its_schedule_holds_is_found():
    schedule = torch.optim.lr_scheduler.StepLR(optimizer(), 3)
    found = held_in(program(schedule=schedule), ())
    assert places(found) == {"schedule": schedule, "schedule.optimizer": schedule.optimizer}


def test_modules_with_tensors_and_parameters_are_found_but_not_those_that_share_weights():
    head, live, plain = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1)), nn.ReLU()
    scale = nn.Parameter(torch.ones(1))
    value = program(head=head, model=live, part=live[0], plain=plain, scale=scale, tensor=torch.ones(1))
    live.optimizer = optimizer()
    found = held_in(value, {id(module) for module in live.modules()})
    assert places(found) == {"head": head, "scale": scale}


def test_objects_that_hold_an_optimizer_or_say_their_state_are_found():
    made = optimizer()
    counter, warmup = Counter(count=1), Plain(optimizer=made, count=0)
    found = held_in(program(optimizer=made, counter=counter, warmup=warmup, plain=Plain(count=2)), ())
    assert places(found) == {"optimizer": made, "counter": counter, "warmup": warmup}


def test_objects_that_hold_what_is_another_one_after_a_switch_are_not():
    made, live = optimizer(), nn.Linear(1, 1)
    engine, watcher = Plain(optimizer=made, nets=[live]), Counter(owner=Plain(program=Program()))
    found = held_in(program(engine=engine, watcher=watcher), {id(live)})
    assert places(found) == {"engine.optimizer": made}


def test_elements_of_long_lists_are_found_but_not_looked_into():
    made = [optimizer(), optimizer()]
    found = held_in(program(long=[0] * 100 + [made[0], [made[1]]]), ())
    assert places(found) == {"long[100]": made[0]}


def test_a_cycle_ends_and_objects_far_away_are_left_alone():
    first = Plain()
    first.next = Plain(back=first)
    far = functools.reduce(lambda inside, _: Plain(inside=inside), range(9), optimizer())
    assert held_in(program(first=first, far=far), ()) == []


def test_what_is_abstract_is_not_asked_for_tensors():
    assert held_in(program(seen=[mu.nn.Linear(2, mu.oneof([1, 2]))]), ()) == []


def test_others_are_put_into_the_places_of_given_objects():
    old, new, kept = Plain(), Plain(), Plain()
    holder = Plain(a=old, b=[old, kept], c={"d": (old,)})
    exchange(holder, {id(old): new})
    assert holder.a is new and holder.b == [new, kept] and holder.c == {"d": (new,)}


def test_a_class_says_its_state_by_two_methods():
    assert has_state(Counter()) and has_state(torch.amp.GradScaler("cpu")) and not has_state(Plain())
