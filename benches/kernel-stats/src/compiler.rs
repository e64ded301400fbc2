//! The compiler of a Vulkan driver.

use std::collections::HashMap;
use std::ffi::CString;

use anyhow::{Context, Result, bail, ensure};
use ash::khr::pipeline_executable_properties as properties;
use ash::vk::{self, PipelineExecutableStatisticFormatKHR as Format};
use wmic::gpu::Spirv;

/// The name of the statistic that every driver has: invocations of a subgroup.
pub const SUBGROUP: &str = "Subgroup size";

/// A Vulkan device, of which only the compiler is used. It lives as long as the program.
pub struct Compiler {
    pub name: String,
    device: ash::Device,
    properties: properties::Device,
    _entry: ash::Entry,
}

impl Compiler {
    /// The first device of the driver in VK_DRIVER_FILES, for half precision with its cooperative matrices.
    ///
    /// # Errors
    /// Without Vulkan 1.3, a device, VK_KHR_pipeline_executable_properties or, for half precision,
    /// VK_KHR_cooperative_matrix.
    pub fn new(halves: bool) -> Result<Compiler> {
        // SAFETY: all handles stem from the objects they are used with, and no pointer outlives what it points to.
        unsafe {
            let entry = ash::Entry::load().context("no Vulkan loader (Debian: libvulkan1)")?;
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&app);
            let instance =
                entry.create_instance(&info, None).context("no Vulkan driver (Debian: mesa-vulkan-drivers)")?;
            let devices = instance.enumerate_physical_devices()?;
            let Some(&physical) = devices.first() else { bail!("the driver knows no device: is it Mesa's RADV?") };
            let about = instance.get_physical_device_properties(physical);
            let name = about.device_name_as_c_str()?.to_string_lossy().into_owned();
            ensure!(about.vendor_id == 0x1002, "{name} is not AMD's: set VK_DRIVER_FILES to RADV's ICD file");

            // As wgpu has its devices: checked by the driver where it can.
            let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
            let mut vulkan13 = vk::PhysicalDeviceVulkan13Features::default().subgroup_size_control(true);
            let mut statistics =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let mut extensions = vec![properties::NAME.as_ptr(), ash::ext::robustness2::NAME.as_ptr()];
            extensions.extend(halves.then_some(ash::khr::cooperative_matrix::NAME.as_ptr()));
            let mut matrices = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
            let mut vulkan12 = vk::PhysicalDeviceVulkan12Features::default()
                .shader_float16(halves)
                .vulkan_memory_model(halves)
                .vulkan_memory_model_device_scope(halves);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .push_next(&mut robust)
                .push_next(&mut vulkan12)
                .push_next(&mut vulkan13)
                .push_next(&mut statistics);
            let info = if halves { info.push_next(&mut matrices) } else { info };
            let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
            let device = instance
                .create_device(physical, &info.enabled_features(&features), None)
                .with_context(|| format!("{name} lacks one of the extensions that are needed"))?;
            let properties = properties::Device::new(&instance, &device);
            Ok(Compiler { name, device, properties, _entry: entry })
        }
    }

    /// The statistics of a kernel, by their names.
    ///
    /// # Errors
    /// The driver rejects it.
    pub fn compile(&self, spirv: &Spirv, entry: &str) -> Result<HashMap<String, u64>> {
        let bindings: Vec<vk::DescriptorSetLayoutBinding> = spirv
            .bindings
            .iter()
            .map(|binding| {
                let kind = match (binding.texture, binding.uniform.is_empty()) {
                    (true, _) => vk::DescriptorType::SAMPLED_IMAGE,
                    (false, true) => vk::DescriptorType::STORAGE_BUFFER,
                    (false, false) => vk::DescriptorType::UNIFORM_BUFFER,
                };
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding.index)
                    .descriptor_count(1)
                    .descriptor_type(kind)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let entry = CString::new(entry)?;
        // SAFETY: as above; the pipeline is destroyed after its last use.
        unsafe {
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let set = [self.device.create_descriptor_set_layout(&info, None)?];
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&set);
            let layout = self.device.create_pipeline_layout(&info, None)?;
            let info = vk::ShaderModuleCreateInfo::default().code(&spirv.words);
            let module = self.device.create_shader_module(&info, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&entry);
            let info = vk::ComputePipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR)
                .stage(stage)
                .layout(layout);
            let made = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let pipelines = made.map_err(|(_, e)| e).context("the driver does not compile it")?;
            let statistics = self.statistics(pipelines[0]);
            self.device.destroy_pipeline(pipelines[0], None);
            self.device.destroy_shader_module(module, None);
            self.device.destroy_pipeline_layout(layout, None);
            self.device.destroy_descriptor_set_layout(set[0], None);
            statistics
        }
    }

    fn statistics(&self, pipeline: vk::Pipeline) -> Result<HashMap<String, u64>> {
        let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        let of = vk::PipelineInfoKHR::default().pipeline(pipeline);
        // SAFETY: the pipeline was created with CAPTURE_STATISTICS and has one executable. Names end with 0, and the
        // format says which member of the value is set.
        let statistics = unsafe { self.properties.get_pipeline_executable_statistics(&info)? };
        let about = unsafe { self.properties.get_pipeline_executable_properties(&of)? };
        let value = |s: &vk::PipelineExecutableStatisticKHR| unsafe {
            match s.format {
                Format::UINT64 => s.value.u64,
                Format::INT64 => s.value.i64 as u64,
                Format::FLOAT64 => s.value.f64 as u64,
                _ => s.value.b32.into(),
            }
        };
        let name =
            |s: &vk::PipelineExecutableStatisticKHR| s.name_as_c_str().unwrap_or_default().to_string_lossy().into();
        let subgroup = about.iter().map(|a| (SUBGROUP.to_owned(), a.subgroup_size.into()));
        Ok(statistics.iter().map(|s| (name(s), value(s))).chain(subgroup).collect())
    }
}
