"""/metrics: the names others scrape, our own, and who may look."""

from tests.fake_engine import refusing, well, well_streamed
from tests.live_world import a_rollout, a_state
from tests.server_world import FakeRuntime, World, play

from tunewright.server.options import GatewayOptions
from tunewright.server.seams import Counts


async def scrape(world: World, key: str | None = "viewer-key") -> str:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with world.client.get(world.url + "/metrics", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain")
        return await response.text()


def test_metrics_need_the_role_viewer():
    async def scene(world: World):
        assert (await world.get("/metrics", key=None))[0] == 401
        status, reply, _ = await world.get("/metrics", key="caller-key")
        assert (status, reply["error"]["code"]) == (403, "role_required")
        assert "viewer" in reply["error"]["message"]
        await scrape(world)

    play(scene)


def test_open_metrics_need_no_key():
    async def scene(world: World):
        assert "vllm:num_requests_running 0.0" in await scrape(world, key=None)

    play(scene, options=GatewayOptions(has_open_metrics=True))


def test_requests_are_counted_in_vllms_opentelemetrys_and_our_names():
    async def scene(world: World):
        await world.chat()
        await world.stream()
        await world.chat()
        text = await scrape(world)
        for line in (
            'vllm:request_success_total{finished_reason="stop",model_name="shop@2"} 2.0',
            'vllm:request_success_total{finished_reason="error",model_name="shop@2"} 1.0',
            'vllm:e2e_request_latency_seconds_count{model_name="shop@2"} 3.0',
            'vllm:time_to_first_token_seconds_count{model_name="shop@2"} 1.0',
            'vllm:prompt_tokens_total{model_name="shop@2"} 6.0',
            'vllm:generation_tokens_total{model_name="shop@2"} 4.0',
            'gen_ai_server_request_duration_seconds_count{error_type="error",gen_ai_response_model="shop@2"}',
            'gen_ai_server_time_to_first_token_seconds_count{gen_ai_response_model="shop@2"} 1.0',
            'gen_ai_client_token_usage_sum{gen_ai_response_model="shop@2",gen_ai_token_type="output"} 4.0',
            'tunewright_requests_total{arm="candidate",model_name="shop@2",status="ok"} 2.0',
            'tunewright_requests_total{arm="candidate",model_name="shop@2",status="error"} 1.0',
            'tunewright_refused_requests_total{http_status="500"} 1.0',
        ):
            assert line in text

    play(scene, well, well_streamed, refusing(500, "engine_failed"))


def test_the_runtimes_figures_are_read_when_somebody_looks():
    rollout = a_rollout()
    state = a_state(phase="ramp", share=0.25)
    figures = Counts(
        traces_waiting=3,
        traces_lost=1,
        engine_restarts=2,
        adapters_resident=4,
        rollouts=((rollout, state),),
        log_e={("shop@1", "errors", "rollback"): 1.5},
    )

    async def scene(world: World):
        await world.post("/v1/feedback", {"trace": "t", "token": "t", "kind": "harm"})
        text = await scrape(world)
        for line in (
            "tunewright_traces_waiting 3.0",
            "tunewright_traces_lost_total 1.0",
            "tunewright_engine_restarts_total 2.0",
            "tunewright_adapters_resident 4.0",
            'tunewright_rollout_share{rollout="shop@1"} 0.25',
            'tunewright_rollout_phase{phase="ramp",rollout="shop@1"} 1.0',
            'tunewright_rollout_log_e{direction="rollback",guardrail="errors",rollout="shop@1"} 1.5',
            'tunewright_feedback_total{kind="harm"} 1.0',
        ):
            assert line in text

    play(scene, runtime=FakeRuntime(figures=figures))
