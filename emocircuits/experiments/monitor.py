"""Readings while a model writes, and what to do about them before a token is emitted.

The reading of a token comes out of the same forward pass as the logits of the next one
(`experiments.readings` has its formula). When it crosses a threshold that was calibrated on neutral text, the
next token is not yet drawn: it can be marked, drawn again under a push, or not drawn at all.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.errors import UserError, unknown
from emocircuits.experiments.calibration import Calibration
from emocircuits.interventions.dial import dial_pushes
from emocircuits.interventions.steer import summed
from emocircuits.models.language_model import MOST_BYTES, UNREADABLE, LanguageModel
from emocircuits.passes.hooks import hook_points, hooked

ACTIONS = ("log", "annotate", "steer", "stop")


@dataclass(frozen=True)
class Step:
    """One token.

    Attributes:
        position: its place, 0 is the first token of the prompt.
        token: its id; None for the token that was not drawn when writing was stopped.
        text: what it stands for.
        readings: emotion -> reading at the token, or at the last one where none was drawn.
        features: feature -> rectified preactivation there (of a TopK SAE only the k largest of all features
            are active).
        above: emotions above their threshold there.
        action: "", or what was done: `marked` where the token itself is above, `steered` where the token
            before it was, `stopped` in place of the next token.
    """

    position: int
    token: int | None
    text: str
    readings: dict[str, float]
    features: dict[str, float]
    above: tuple[str, ...]
    action: str

    def line(self, request: Any) -> str:
        """As a line of JSON."""
        return json.dumps(
            {
                "request": request,
                "position": self.position,
                "token": self.token,
                "text": self.text,
                "readings": {name: round(value, 6) for name, value in self.readings.items()},
                "features": {name: round(value, 6) for name, value in self.features.items()},
                "above": list(self.above),
                "action": self.action,
            },
            ensure_ascii=False,
        )


@dataclass(eq=False)
class Monitor:
    """Watches a model while it writes; every call of `write` is a request with a state of its own.

    Attributes:
        model: the model.
        directions: its directions.
        calibration: thresholds; the emotions that are read.
        action: `log`, `annotate` (the text is marked), `steer` (the next token and the rest are drawn under
            `steering`) or `stop`.
        steering: emotion -> strength, for `steer`.
        site: where to read; the directions' reading site by default.
        dictionary: an SAE opened as a `Dictionary` at that site, for features.
        features: which features are read.
        seconds: time spent in forward passes and in all the rest of the monitor's own work, for its cost.
    """

    model: LanguageModel
    directions: EmotionDirections
    calibration: Calibration
    action: str = "log"
    steering: dict[str, float] = field(default_factory=dict)
    site: str | None = None
    dictionary: Any = None
    features: tuple[int, ...] = ()
    seconds: dict[str, float] = field(default_factory=lambda: {"model": 0.0, "monitor": 0.0})

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise unknown("action", self.action, ACTIONS)
        if self.action == "steer" and not any(self.steering.values()):
            raise UserError(
                "the action 'steer' without a direction", expected="emotions and strengths, e.g. calm=0.05"
            )
        self.directions.check_model(self.model.name, self.model.content_hash, self.model.d_model)
        self.site = self.site or self.directions.read_site
        site_index, emotions = self.directions.site_index(self.site), list(self.calibration.thresholds)
        vectors = np.stack([self.directions.vector(emotion, self.site) for emotion in emotions]).astype(
            np.float64
        )
        scale, device = self.directions.scale(self.site), self.model.bridge.cfg.device
        rows = [torch.from_numpy(vectors.T / scale)]
        offset = [vectors @ self.directions.mean[site_index].astype(np.float64) / scale]
        if self.features:
            if self.dictionary is None or self.dictionary.site != self.site:
                raise UserError(
                    f"features without an SAE at {self.site}", expected="the SAE of the reading site"
                )
            if max(self.features) >= self.dictionary.d_sae:
                raise UserError(f"feature {max(self.features)}", expected=f"below {self.dictionary.d_sae}")
            chosen = list(self.features)
            rows.append(self.dictionary.encoder[:, chosen].double().cpu())
            offset.append(-self.dictionary.encoder_bias[chosen].double().cpu().numpy())
        # everything that is read is one small matrix product per token
        self._read = torch.cat(rows, dim=1).float().to(device)
        self._offset = torch.from_numpy(np.concatenate(offset)).float().to(device)
        self._emotions = emotions
        self._thresholds = np.array([self.calibration.thresholds[emotion] for emotion in emotions])
        self._points = hook_points(self.model.bridge)
        self._push = (
            summed(dial_pushes(self.model, self.directions, self.steering)) if self.action == "steer" else {}
        )

    @torch.no_grad()
    def write(
        self, prompt: str, n_tokens: int, *, temperature: float | int = 1.0, seed: int = 0
    ) -> Iterator[Step]:
        """Continues a prompt, one step per token; the steps before the first new token are the prompt's own.

        Args:
            prompt: what is continued.
            n_tokens: most tokens to write.
            temperature: 0 takes the most likely token.
            seed: seed of the sampling.

        Raises:
            UserError: an empty prompt, or one that leaves no room in the context.
        """
        ids = self.model.encode(prompt)
        if not prompt:
            raise UserError("the prompt is empty")
        self.model.check_length(ids, n_tokens)
        if len(ids) < 2:
            raise UserError(
                f"the prompt {str(prompt)[:40]!r} is one token, the first, which has no reading",
                expected="at least two tokens",
            )
        request = _Request(self, torch.Generator().manual_seed(seed), float(temperature))
        stop = self.model.stop_ids
        # hooks stand as long as the request (setting them costs as much as a small model's part of a pass)
        # and sleep between its passes, so that whatever else the model is asked in between is neither read
        # nor pushed
        with hooked(self.model.bridge, self._points, request.hooks()):
            yield from request.prompt_steps(ids)
            for number in range(n_tokens):
                step = request.next_step(len(ids) + number)
                yield step
                if step.token is None or step.token in stop:
                    return


class _Request:
    """One request: cache, readings so far, whether the push is on."""

    def __init__(self, monitor: Monitor, source: torch.Generator, temperature: float):
        self.monitor, self.source, self.temperature = monitor, source, temperature
        self.cache, self.pushed, self.awake = DynamicCache(), False, False
        self.history: list[np.ndarray] = []
        self.last = -1
        self.unfinished: list[int] = []  # tokens whose character lacks bytes
        self.logits = torch.empty(0)
        self._seen = torch.empty(0)

    def hooks(self) -> list[tuple[str, Any]]:
        """What reads and what pushes, asleep outside this request's own passes."""
        monitor = self.monitor

        def read(value: torch.Tensor, hook: object) -> None:
            if self.awake:
                self._seen = torch.addmm(-monitor._offset, value[0].float(), monitor._read)

        def push(site: str) -> Any:
            return lambda value, hook: (
                value + monitor._push[site].to(value) if self.awake and self.pushed else None
            )

        return [*((site, push(site)) for site in monitor._push), (str(monitor.site), read)]

    def _forward(self, tokens: torch.Tensor) -> np.ndarray:
        """One pass; the logits of the last position are kept, the values that are read are returned for all
        its positions.
        """
        begin, self.awake = time.perf_counter(), True
        try:
            logits = self.monitor.model.bridge(tokens, past_key_values=self.cache, use_cache=True)
        finally:
            self.awake = False
        self.logits = logits[0, -1].float()
        values = self._seen.cpu().numpy().astype(np.float64)
        self.monitor.seconds["model"] += time.perf_counter() - begin
        return values

    def prompt_steps(self, ids: list[int]) -> Iterator[Step]:
        """The prompt in one pass; the attention sink at position 0 has no reading."""
        device = self.monitor.model.bridge.cfg.device
        values = self._forward(torch.tensor([ids], device=device))
        values[0] = np.nan
        texts = self.monitor.model.token_texts(ids)
        for position in range(1, len(ids)):
            self.history.append(values[position])
            yield self._step(position, ids[position], texts[position], "")
        self.last = ids[-1]

    def next_step(self, position: int) -> Step:
        """Decides on the reading of the last token, then draws the next one."""
        monitor, begin = self.monitor, time.perf_counter()
        above = self._above()
        monitor.seconds["monitor"] += time.perf_counter() - begin
        if above and monitor.action == "stop":
            return self._step(position, None, "", "stopped")
        action = ""
        device = monitor.model.bridge.cfg.device
        if above and monitor.action == "steer" and not self.pushed:
            self.pushed, action = True, "steered"
            # the last token again, now under the push: what it hands on is what the next token is drawn from
            self.cache.crop(-1)
            self.history[-1] = self._forward(torch.tensor([[self.last]], device=device))[-1]
        begin = time.perf_counter()
        token = self._draw()
        monitor.seconds["model"] += time.perf_counter() - begin
        self.last = token
        self.history.append(self._forward(torch.tensor([[token]], device=device))[-1])
        if monitor.action == "annotate" and self._above():
            action = "marked"
        return self._step(position, token, self._text(token), action)

    def _text(self, token: int) -> str:
        """What a new token adds to the text: nothing while its character lacks bytes."""
        ids = [*self.unfinished, token]
        text = self.monitor.model.token_texts(ids)[-1]
        waits = UNREADABLE in text and len(ids) < MOST_BYTES
        self.unfinished = ids if waits else []
        return "" if waits else text

    def _above(self) -> tuple[str, ...]:
        monitor, window = self.monitor, self.monitor.calibration.window
        recent = self.history[-1] if window == 1 else np.mean(self.history[-window:], axis=0)
        high = (recent[: len(monitor._emotions)] > monitor._thresholds).tolist()
        return tuple(emotion for emotion, above in zip(monitor._emotions, high, strict=True) if above)

    def _step(self, position: int, token: int | None, text: str, action: str) -> Step:
        begin = time.perf_counter()
        values, count = self.history[-1], len(self.monitor._emotions)
        step = Step(
            position,
            token,
            text,
            dict(zip(self.monitor._emotions, values[:count].tolist(), strict=True)),
            dict(zip(map(str, self.monitor.features), np.maximum(values[count:], 0).tolist(), strict=True)),
            self._above(),
            action,
        )
        self.monitor.seconds["monitor"] += time.perf_counter() - begin
        return step

    def _draw(self) -> int:
        if self.temperature == 0:
            return int(self.logits.argmax())
        chances = (self.logits / self.temperature).softmax(-1).cpu()
        return int(torch.multinomial(chances, 1, generator=self.source))


def marked_text(steps: Sequence[Step]) -> str:
    """The text with what was above its threshold in brackets after the token."""
    return "".join(
        step.text + (f"[{', '.join(step.above)}]" if step.action == "marked" else "") for step in steps
    )
