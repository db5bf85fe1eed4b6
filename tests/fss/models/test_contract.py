"""The contract suite over learners, masking strategies and backbones."""

import pytest

from tests.helpers.segmenter_contract import check_contract, check_encoded_images_are_enough, check_shapes, make

MASKINGS = ("none", "feature", "input", "hybrid")


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("learner", ["masksplit", "hsnet", "asnet"])
def test_contract_of_every_masking(learner, masking, tmp_path):
    check_contract(tmp_path, learner=learner, masking=masking, backbone="resnet18")


@pytest.mark.parametrize("learner", ["masksplit", "hsnet", "asnet", "vat"])
def test_contract_of_a_light_backbone(learner, tmp_path):
    check_contract(tmp_path, learner=learner, masking="hybrid", backbone="mobilenet_v2")


@pytest.mark.parametrize("support_crop", [True, False])
def test_contract_of_the_learner_without_training(support_crop, tmp_path):
    settings = {"learner": "density", "backbone": "resnet18", "density": {"support_crop": support_crop}}
    check_contract(tmp_path, trained=False, **settings)


@pytest.mark.parametrize("masking", ["none", "feature", "input"])
def test_vat_encodes_apart_under_every_masking(masking):
    check_encoded_images_are_enough(make(learner="vat", masking=masking, backbone="resnet18"))


@pytest.mark.parametrize("backbone", ["vgg16", "resnet50_deepstem", "efficientnet_b0"])
def test_shapes_of_more_backbones(backbone):
    check_shapes(make(learner="hsnet", masking="hybrid", backbone=backbone))
    check_shapes(make(learner="masksplit", masking="none", backbone=backbone))
