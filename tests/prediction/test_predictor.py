import numpy as np
import pytest
import torch

from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.frame import Frame
from fluorosam_cli.model import preprocess
from fluorosam_cli.model.checkpoint import load_checkpoint
from fluorosam_cli.model.fluorosam import Prompts
from fluorosam_cli.prediction.predictor import ImagePrompt, Predictor, choose_device
from fluorosam_cli.prediction.tta import LOOKS
from fluorosam_cli.text.encoder import load_text_encoder


@pytest.fixture(scope="module")
def predictor(tiny_checkpoint):
    return Predictor.from_checkpoint(tiny_checkpoint)


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    blob = np.hypot(x - 0.7 * width, y - 0.3 * height) < min(height, width) / 5
    return (rng.integers(0, 8000, (height, width)) + 40_000 * blob).astype(np.uint16)


@pytest.mark.parametrize("shape", [(61, 97), (97, 61), (16, 211), (128, 128), (300, 200)])
def test_masks_have_the_images_own_size(predictor, shape):
    predictor.set_image(picture(*shape))
    answer = predictor.predict(text="left lung", points_xy=[[3, 5]], point_labels=[1])
    assert answer.masks.shape == (4, *shape)
    assert answer.masks.dtype == bool
    assert answer.ious.shape == (4,)
    assert answer.best == answer.ious.argmax()
    assert answer.mask.shape == shape
    assert 0 <= answer.presence <= 1


def test_the_network_is_asked_what_the_user_asked(predictor, tiny_checkpoint):
    """Against the network called by hand: image fitted, coordinates scaled, box corners first."""
    image = picture(80, 60)
    predictor.set_image(image)
    answer = predictor.predict("liver", [[10, 20], [59, 0]], [1, 0], [5, 8, 40, 60])
    model, header = load_checkpoint(tiny_checkpoint)
    fitted, _ = preprocess.fit(torch.from_numpy(image.astype(np.float32)), 128)
    scale = 128 / 80
    points = [[5 * scale - 0.5, 8 * scale - 0.5], [40 * scale - 0.5, 60 * scale - 0.5]]
    points += [[10.5 * scale - 0.5, 20.5 * scale - 0.5], [59.5 * scale - 0.5, 0.5 * scale - 0.5]]
    with torch.inference_mode():
        decoded = model.decode(
            model.encode_image(preprocess.channels(fitted[None])),
            Prompts(
                image_index=torch.tensor([0]),
                text=model.text_head(torch.from_numpy(load_text_encoder(header.text_encoder.name).encode(["liver"]))),
                has_text=torch.tensor([True]),
                points_xy=torch.tensor([points]),
                point_labels=torch.tensor([[2, 3, 1, 0]]),
                mask_logits=torch.zeros(1, 1, 64, 64),
                has_mask=torch.tensor([False]),
            ),
        )
    np.testing.assert_allclose(answer.logits, decoded.masks[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(answer.ious, decoded.iou[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(answer.presence, decoded.presence.sigmoid()[0].item(), atol=1e-5)


def test_a_prompt_in_company_is_answered_as_alone(predictor):
    predictor.set_image(picture(61, 97))
    earlier = predictor.predict(points_xy=[[50, 20]])
    prompts = [
        ImagePrompt(text="heart"),
        ImagePrompt(points_xy=[[50, 20], [3, 3], [96, 60]], point_labels=[1, 0, 0]),
        ImagePrompt(box_xyxy=[0, 0, 97, 61]),
        ImagePrompt("left lung", [[70, 20]], [1], [40, 5, 90, 50], earlier.logits[earlier.best]),
        *[ImagePrompt(text=f"rib {i}") for i in range(20)],
    ]
    together = predictor.predict_batch(prompts)
    assert len(together) == len(prompts)
    for prompt, answer in list(zip(prompts, together, strict=True))[:6]:
        alone = predictor.predict_batch([prompt])[0]
        np.testing.assert_allclose(answer.logits, alone.logits, atol=1e-5)
        np.testing.assert_allclose(answer.ious, alone.ious, atol=1e-5)
        assert answer.presence == pytest.approx(alone.presence, abs=1e-5)


def test_every_part_of_a_prompt_counts(predictor):
    predictor.set_image(picture(90, 90))
    base = ImagePrompt("heart", [[40, 40]], [1], [10, 10, 60, 60])
    logits = np.linspace(-5, 5, 64 * 64).reshape(1, 64, 64)
    others = [
        ImagePrompt("liver", [[40, 40]], [1], [10, 10, 60, 60]),
        ImagePrompt("heart", [[40, 80]], [1], [10, 10, 60, 60]),
        ImagePrompt("heart", [[40, 40]], [0], [10, 10, 60, 60]),
        ImagePrompt("heart", [[40, 40]], [1], [10, 10, 80, 60]),
        ImagePrompt("heart", [[40, 40]], [1], [10, 10, 60, 60], logits),
        ImagePrompt(None, [[40, 40]], [1], [10, 10, 60, 60]),
    ]
    first, *rest = (answer.logits for answer in predictor.predict_batch([base, *others]))
    assert all(np.abs(first - other).max() > 1e-4 for other in rest)


def test_two_predictors_share_nothing(predictor, tiny_checkpoint):
    predictor.set_image(picture(64, 64, seed=1))
    before = predictor.predict("heart").logits
    other = Predictor.from_checkpoint(tiny_checkpoint)
    with pytest.raises(FluoroError, match="no image is set"):
        other.predict("heart")
    other.set_image(picture(64, 64, seed=2))
    assert np.abs(other.predict("heart").logits - before).max() > 1e-5
    np.testing.assert_array_equal(predictor.predict("heart").logits, before)


def test_range_and_type_of_the_image_do_not_matter(predictor):
    image = picture(70, 50)
    predictor.set_image(image)
    before = predictor.predict("heart").logits
    for same in (image / 65535, np.repeat(image[..., None], 3, axis=2), image.astype(np.int64) * 3 - 1000):
        predictor.set_image(same)
        np.testing.assert_allclose(predictor.predict("heart").logits, before, atol=1e-3)


@pytest.mark.parametrize("shape", [(61, 97), (97, 61), (128, 128), (40, 400)])
def test_coordinates_go_there_and_back(shape):
    """A peak drawn where `to_input` says lies at the point again after `to_image`."""
    frame = Frame(*shape, 128)
    rng = np.random.default_rng(0)
    for x, y in rng.uniform((4, 4), (shape[1] - 5, shape[0] - 5), (8, 2)):
        at_x, at_y = frame.to_input(np.array([x, y]))
        rows, columns = np.mgrid[0:128, 0:128]
        logits = -((columns - at_x) ** 2) - (rows - at_y) ** 2
        back = preprocess.to_image(torch.from_numpy(logits)[None].float(), frame)[0].numpy()
        found_y, found_x = np.unravel_index(back.argmax(), back.shape)
        assert abs(found_x - x) <= 0.5 + 0.6 / frame.scale
        assert abs(found_y - y) <= 0.5 + 0.6 / frame.scale


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_a_look_goes_there_and_back(look):
    """A blob lies in the look where its point does, drawn as an image or as logits, and back where it was."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    blob = torch.exp(-((x - 70) ** 2 + (y - 30) ** 2) / 50)

    def middle(square):
        return torch.stack([(square * x).sum(), (square * y).sum()]) / square.sum()

    seen = look.points(torch.tensor([[70.0, 30.0]]), 96)[0]
    assert torch.allclose(middle(look.image(blob)), seen, atol=0.2)
    turned = look.mask_input(blob[None, None])
    assert torch.allclose(middle(turned[0, 0]), seen, atol=0.2)
    assert torch.allclose(look.undone(turned)[0, 0], blob, atol=0.03)


def test_several_looks_are_another_answer_of_the_same_size(predictor):
    image, prompt = picture(61, 97), ImagePrompt("heart", [[70, 20]], [1])
    one, several = (predictor.set_image(image, tta).predict_batch([prompt])[0] for tta in (False, True))
    assert several.mask.shape == one.mask.shape
    assert np.abs(several.logits - one.logits).max() > 1e-4


def test_threshold_moves_the_mask(tiny_checkpoint):
    areas = []
    for threshold in (0.05, 0.5, 0.95):
        predictor = Predictor.from_checkpoint(tiny_checkpoint, threshold=threshold)
        predictor.set_image(picture(64, 64))
        areas.append(predictor.predict("heart").masks.sum())
    assert areas[0] >= areas[1] >= areas[2]
    with pytest.raises(FluoroError, match="threshold"):
        Predictor.from_checkpoint(tiny_checkpoint, threshold=1)


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (ImagePrompt(points_xy=[[900, 10]], point_labels=[1]), "point 900,10: outside the image of 97x61"),
        (ImagePrompt(points_xy=[[5, 61]], point_labels=[1]), "point 5,61: outside the image of 97x61"),
        (ImagePrompt(points_xy=[[float("nan"), 6]], point_labels=[1]), "point nan,6"),
        (ImagePrompt(points_xy=[[5, 6]], point_labels=[2]), "label is 2"),
        (ImagePrompt(points_xy=[[5, 6]], point_labels=[]), "1 points but 0 labels"),
        (ImagePrompt(box_xyxy=[5, 5, 5, 9]), "is empty"),
        (ImagePrompt(box_xyxy=[5, 5, 98, 9]), "outside the image of 97x61"),
        (ImagePrompt(box_xyxy=[5, 5, 9]), "four numbers"),
        (ImagePrompt("heart", mask_input=np.zeros((3, 3))), "mask_input"),
        (ImagePrompt(text="  "), "phrase"),
        (ImagePrompt(), "prompt: is empty"),
    ],
)
def test_prompts_are_checked(predictor, prompt, problem):
    predictor.set_image(picture(61, 97))
    with pytest.raises(FluoroError, match=problem):
        predictor.predict_batch([ImagePrompt("heart"), prompt])


def test_devices():
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")
    with pytest.raises(FluoroError, match="not known"):
        choose_device("tpu")
    with pytest.raises(FluoroError, match="--device cuda:99 was requested"):
        choose_device("cuda:99")
