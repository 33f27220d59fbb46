"""Group relative policy optimization (Shao et al., 2024), read from top to bottom.

One loop for CPU and GPU: load, prepare, resume, train, save, evaluate. Each step answers some
prompts several times; an answer's advantage is how far its reward lies above its group's mean, in
deviations of the group, and its tokens become likelier by that. Knows neither database nor network.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import torch

from app.runs.rewards import Reward
from app.runs.rewards import chosen as chosen_rewards
from app.runs.spec import RunConfig, TrainerJob
from worker.trainer import plan as planning
from worker.trainer import results
from worker.trainer.data import IGNORED, Encoded
from worker.trainer.emitter import Emitter
from worker.trainer.generating import AT_ONCE, Answer, answers, ends_of, text_of
from worker.trainer.keeping import Keeper, leave_unless_kept, tell_substitutes
from worker.trainer.likelihoods import before_training, evaluating, of_tokens
from worker.trainer.loading import Loaded, load
from worker.trainer.optimizing import build_optimizer, set_rate, update
from worker.trainer.prompting import Prompt, prepare_prompts
from worker.trainer.ranks import ALONE, Ranks
from worker.trainer.recipes.heldout import MOST_ITEMS
from worker.trainer.schedule import timetable
from worker.trainer.stopping import Stop


def train(
    job: TrainerJob, *, folder: Path, emitter: Emitter, stop: Stop, ranks: Ranks = ALONE
) -> None:
    """Train as ``job`` says, from the folder's last checkpoint on.

    With several ``ranks`` each process trains its share of every step.
    """
    config, plan = job.run.config, job.run.config.training
    torch.manual_seed(plan.seed)
    leave_unless_kept(stop)

    # Model and data
    loaded = load(job)
    leave_unless_kept(stop)
    tell_substitutes(job, loaded, emitter)
    emitter.log(loaded.form.said)
    emitter.phase("preparing")
    ranks.join(folder, device=loaded.device)
    with ranks.first_one_first():
        data = prepare_prompts(job, loaded.tokenizer, emitter, stop)
    ends = ends_of(loaded, data.learned)
    optimizer = build_optimizer(loaded, config)
    times = timetable(config, steps_in_epoch=data.steps_in_epoch)

    # Where we stand
    torch.manual_seed(plan.seed)
    keeper = Keeper(
        job,
        folder=folder,
        loaded=loaded,
        optimizer=optimizer,
        times=times,
        emitter=emitter,
        ranks=ranks,
    )
    with ranks.first_one_first():
        state = keeper.resume(data.fingerprint)
    emitter.phase("training", step=state.step, total_steps=times.total)

    # Steps
    while True:
        wish = ranks.agree(stop.mode)
        if data.validation and times.validates(state) and not wish:
            emitter.phase("training", step=state.step, within="validation")
            found = validation(loaded, data.validation, config, ends=ends, ranks=ranks)
            # What is watched and compared wants less: a reward with its sign turned.
            figures = {f"eval/{name}": found[name] for name in found}
            loss = -found["reward"]
            keeper.tell_validation(loss, {"eval/loss": loss, **figures})
        keeper.save_if_due()
        if state.step >= times.total or times.gives_up(state):
            break
        keeper.leave_if_asked(wish)

        started = time.perf_counter()
        places = planning.rows_of_step(
            state.step, rows=len(data.rows), rows_in_step=data.prompts_in_step, seed=plan.seed
        )
        prompts = [data.rows[place] for place in places]
        rate = keeper.rate
        set_rate(optimizer, rate)
        try:
            ranks.seed(plan.seed, state.step)
            tried = try_out(loaded, ranks.share(prompts), config, ends=ends)
            loss, norm = one_step(
                loaded, optimizer, tried, config, batch=keeper.batch_size, ranks=ranks
            )
        except Exception as error:
            keeper.halve_or_raise(error)
            continue
        state.step += 1
        figures = {
            **{
                f"train/{name}": value
                for name, value in (told(tried, config, ranks) | loss).items()
            },
            "train/learning_rate": rate,
            "train/grad_norm": norm,
            "train/epoch": state.step / data.steps_in_epoch,
        }
        seconds = time.perf_counter() - started
        keeper.tell_step(
            figures,
            tokens=round(ranks.sum(sum(len(one.encoded) for one in tried))),
            seconds=seconds,
        )

    # The result
    keeper.conclude()
    ranks.leave()
    if ranks.is_first:
        results.measure(
            loaded,
            data.held_out,
            data.encoded,
            folder=folder,
            state=state,
            emitter=emitter,
            stop=stop,
        )


@dataclass(frozen=True)
class Tried:
    """An answer that the model gave, and what it was worth. ``advantage`` is within its group."""

    encoded: Encoded
    worths: dict[str, float]
    reward: float
    is_ended: bool
    advantage: float = 0.0


def try_out(
    loaded: Loaded, prompts: Sequence[Prompt], config: RunConfig, *, ends: Sequence[int]
) -> list[Tried]:
    """Return several answers to each prompt, those of a prompt one after the other."""
    sampling = config.sampling
    asked = [prompt for prompt in prompts for _ in range(sampling.num_generations)]
    found = given(loaded, asked, config, ends=ends, temperature=sampling.temperature)
    groups = [
        found[start : start + sampling.num_generations]
        for start in range(0, len(found), sampling.num_generations)
    ]
    return [one for group in groups for one in with_advantages(group)]


def given(
    loaded: Loaded,
    prompts: Sequence[Prompt],
    config: RunConfig,
    *,
    ends: Sequence[int],
    temperature: float | None,
) -> list[Tried]:
    """Return the model's answer to each prompt with what it is worth."""
    rewards, found = chosen_rewards(config.rewards), list[Tried]()
    at_once = AT_ONCE[loaded.device]
    with evaluating(loaded), loaded.autocast():
        for start in range(0, len(prompts), at_once):
            part = prompts[start : start + at_once]
            written = answers(
                loaded,
                [prompt.ids for prompt in part],
                most=config.sampling.max_completion_length,
                ends=ends,
                temperature=temperature,
            )
            found += [
                _tried(prompt, answer, text_of(loaded, answer), rewards)
                for prompt, answer in zip(part, written, strict=True)
            ]
    return found


def _tried(prompt: Prompt, answer: Answer, text: str, rewards: Sequence[Reward]) -> Tried:
    labels = [*[IGNORED] * len(prompt.ids), *answer.ids]
    worths = {one.name: one.worth(text, prompt.expected) for one in rewards}
    reward = sum(one.weight * worths[one.name] for one in rewards)
    encoded = Encoded(prompt.line, [*prompt.ids, *answer.ids], labels)
    return Tried(encoded, worths, reward, answer.is_ended)


def with_advantages(group: Sequence[Tried]) -> list[Tried]:
    """Return the answers to one prompt with how far each one's reward lies above their mean."""
    rewards = [one.reward for one in group]
    middle, spread = mean(rewards), stdev(rewards)
    return [replace(one, advantage=(one.reward - middle) / (spread + 1e-4)) for one in group]


def one_step(
    loaded: Loaded,
    optimizer: torch.optim.Optimizer,
    tried: Sequence[Tried],
    config: RunConfig,
    *,
    batch: int,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, float], float]:
    """Train one step; return its loss, its divergence if that counts, and the gradient's norm."""
    learned = ranks.sum(sum(one.encoded.trained for one in tried))
    loaded.model.train()
    total = torch.zeros(2, device=loaded.device)
    for start in range(0, len(tried), batch):
        sums = one_batch(loaded, tried[start : start + batch], config) / learned
        sums[0].backward()
        total += sums.detach()
    norm = update(loaded, optimizer, config, ranks, total)
    loss, divergence = total.tolist()
    return {"loss": loss} | ({"kl": divergence} if config.sampling.beta else {}), norm


def one_batch(loaded: Loaded, tried: Sequence[Tried], config: RunConfig) -> torch.Tensor:
    """Return sums over a batch's tokens: of the loss, and of the divergence from before training.

    Each answer is learned from once, so the ratio to the model that gave it is 1 and nothing is
    clipped; the ratio carries the gradient. The divergence is Schulman's third estimate.
    """
    examples, beta = [one.encoded for one in tried], config.sampling.beta
    warmth = config.sampling.temperature
    logps, owners = of_tokens(loaded, examples, temperature=warmth)
    advantages = torch.tensor([one.advantage for one in tried], device=logps.device)
    losses = -advantages[owners] * torch.exp(logps - logps.detach())
    divergence = torch.zeros_like(logps)
    if beta:
        with before_training(loaded):
            before = of_tokens(loaded, examples, temperature=warmth).logps
        divergence = torch.exp(before - logps) - (before - logps) - 1
    loss = (losses + beta * divergence).sum()
    return torch.stack([loss, divergence.detach().sum()])


def told(tried: Sequence[Tried], config: RunConfig, ranks: Ranks = ALONE) -> dict[str, float]:
    """Return what is told of a step's answers, by TRL's names, means over all of them.

    A rank without an answer asks for the same sums as the others.
    """
    names = [one.name for one in chosen_rewards(config.rewards)]
    count = ranks.sum(len(tried))
    groups = ranks.sum(len({one.encoded.line for one in tried}))

    def share(values: Iterable[float]) -> float:
        return ranks.sum(sum(values)) / count

    reward = share(one.reward for one in tried)
    squares = ranks.sum(sum((one.reward - reward) ** 2 for one in tried))
    flat = ranks.sum(_groups_alike(tried)) / groups
    return {
        "reward": reward,
        "reward_std": math.sqrt(squares / max(1, count - 1)),
        "frac_reward_zero_std": flat,
        **{f"rewards/{name}/mean": share(one.worths[name] for one in tried) for name in names},
        "completions/mean_length": share(one.encoded.trained for one in tried),
        "completions/clipped_ratio": share(not one.is_ended for one in tried),
    }


def _groups_alike(tried: Sequence[Tried]) -> int:
    """Return how many prompts had answers of one reward, of which nothing is learned."""
    rewards: dict[int, set[float]] = {}
    for one in tried:
        rewards.setdefault(one.encoded.line, set()).add(one.reward)
    return sum(len(found) == 1 for found in rewards.values())


def validation(
    loaded: Loaded,
    prompts: Sequence[Prompt],
    config: RunConfig,
    *,
    ends: Sequence[int],
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Return what is told of the answers to prompts held out, the likeliest one to each."""
    own = ranks.share(prompts[:MOST_ITEMS])
    found = told(given(loaded, own, config, ends=ends, temperature=None), config, ranks)
    return {name: found[name] for name in found if "std" not in name}
